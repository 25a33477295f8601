"""What others do to the records in MLflow: they delete runs, add their own, and edit descriptions."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Makemore
from fake_tasks import FAKE

from sweeps.databases import close_databases
from sweeps.tracking.store import MlflowClient

STUDY = ("sweep", *FAKE, "task=instant", "task.level=3.0,1.0,2.0", "sampler=grid", "study.name=a", "study.workers=1")
CONFIRMED = (*STUDY, "study.confirm.top=2", "study.confirm.seeds=1")
PLAIN = (*STUDY, "study.confirm.top=0")


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")


def run_of(folder: Path, condition: str) -> str:
    [run] = client(folder).search_runs(["1"], condition)
    return str(run.info.run_id)


def winner_of(folder: Path) -> str:
    [run] = client(folder).search_runs(["1"], "tags.kind = 'trial' and params.task.level = '1.0'")
    return str(run.info.run_id)


@pytest.mark.parametrize("study", [PLAIN, CONFIRMED])
def test_a_deleted_winner_is_named_with_its_cure_and_no_other_wins(
    makemore: Makemore, workdir: Path, study: tuple[str, ...]
) -> None:
    assert makemore(*study, "study.n_trials=3").code == 0
    run_id = winner_of(workdir)
    client(workdir).delete_run(run_id)
    for command in (("sample", "study.name=a"), ("compare", "baseline=a"), study, ("final-test", "study.name=a")):
        answer = makemore(*command, *(("study.n_trials=3",) if command is study else ()))
        assert answer.code == 2, command
        assert "was deleted in MLflow: restore it" in answer.err
        assert f"mlflow runs restore --run-id {run_id}" in answer.err
    client(workdir).restore_run(run_id)
    assert makemore("compare", "baseline=a").code == 0
    assert makemore(*study, "study.n_trials=3").code == 0


def test_a_deleted_run_that_confirmed_still_counts(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*CONFIRMED, "study.n_trials=3").code == 0
    for run in client(workdir).search_runs(["1"], "tags.kind = 'confirm'"):
        client(workdir).delete_run(run.info.run_id)
    answer = makemore(*CONFIRMED, "study.n_trials=3")
    assert answer.code == 0, answer.err
    assert "mean dev loss" in answer.out  # the winner is still a confirmed one
    assert f"run {winner_of(workdir)}" in answer.out


def test_a_deleted_run_of_a_study_is_named_with_its_cure(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*CONFIRMED, "study.n_trials=2").code == 0
    run_id = run_of(workdir, "tags.kind = 'study'")
    client(workdir).delete_run(run_id)
    answer = makemore(*CONFIRMED, "study.n_trials=3")
    assert answer.code == 2
    assert "study.name is a; its run in MLflow was deleted: restore it" in answer.err
    assert f"mlflow runs restore --run-id {run_id}" in answer.err
    assert "confirmed" in makemore("compare", "study.name=a").out  # the rule for the winner is still read from it
    client(workdir).restore_run(run_id)
    assert makemore(*CONFIRMED, "study.n_trials=3").code == 0


def test_a_run_that_was_deleted_is_said_to_be_so(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*PLAIN, "study.n_trials=2").code == 0
    run_id = run_of(workdir, "tags.trial_number = '0'")
    client(workdir).delete_run(run_id)
    answer = makemore("sample", f"run={run_id[:8]}")
    assert answer.code == 2
    assert f"run is {run_id[:8]}; that run was deleted: restore it" in answer.err


FOREIGN = [
    {"kind": "study"},
    {"kind": "study", "study": "not a name"},
    {"kind": "study", "study": "b", "confirm_top": "many"},
    {"kind": "trial"},
    {"kind": "trial", "study": "a"},
    {"kind": "trial", "study": "a", "trial_number": "first", "trial_state": "COMPLETE"},
    {"kind": "trial", "study": "a", "trial_number": "-1"},
    {"kind": "confirm", "study": "a", "trial_number": "1"},
    {"kind": "ladder"},
    {"kind": "final_test"},
    {"kind": "final_test", "study": "a", "look": "1", "weights_digest": "0"},
    {"kind": "anything", "trial_number": "x"},
    {},
]


def test_runs_of_others_with_some_of_our_tags_are_left_alone(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*CONFIRMED, "study.n_trials=2").code == 0
    for tags in FOREIGN:
        run = client(workdir).create_run("1", tags=tags)
        client(workdir).set_terminated(run.info.run_id, "FINISHED")
        client(workdir).create_run("1", tags=tags)  # and one that is left running
    for command in (
        (*CONFIRMED, "study.n_trials=3"),
        ("compare",),
        ("compare", "by=setting"),
        ("compare", "baseline=a", "format=csv"),
        ("looks",),
    ):
        answer = makemore(*command)
        assert answer.code == 0, (command, answer.err)
    assert makemore("compare", "format=csv").out.count("\n") == 4  # a line for each of three trials


def test_models_of_others_are_left_alone(makemore: Makemore, workdir: Path) -> None:
    client(workdir).create_registered_model("makemore")
    client(workdir).create_registered_model("another")
    assert makemore(*PLAIN, "study.n_trials=2").code == 0
    run_id = run_of(workdir, "tags.kind = 'study'")
    client(workdir).create_model_version("makemore", f"runs:/{run_id}/model", run_id)
    client(workdir).set_registered_model_alias("makemore", "champion", "1")
    assert makemore("compare").code == 0
    assert makemore("looks").code == 0


def test_a_complete_trial_without_metrics_or_params_is_shown_without_them(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*PLAIN, "study.n_trials=3").code == 0
    close_databases()
    run_id = run_of(workdir, "tags.trial_number = '0'")
    close_databases()
    with closing(sqlite3.connect(workdir / "mlruns/mlflow.db")) as database, database:
        for table in ("metrics", "latest_metrics", "params"):
            database.execute(f"delete from {table} where run_uuid = ?", (run_id,))
        database.execute("delete from tags where run_uuid = ? and key in ('config_hash', 'group_hash')", (run_id,))
    for command in (("compare",), ("compare", "by=setting"), (*PLAIN, "study.n_trials=3")):
        answer = makemore(*command)
        assert answer.code == 0, (command, answer.err)


def test_a_description_that_the_user_wrote_stays(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*PLAIN, "study.n_trials=1").code == 0
    run_id, key = run_of(workdir, "tags.kind = 'study'"), "mlflow.note.content"
    assert "1 complete" in client(workdir).get_run(run_id).data.tags[key]
    assert makemore(*PLAIN, "study.n_trials=2").code == 0
    assert "2 complete" in client(workdir).get_run(run_id).data.tags[key]  # our own is brought up to date
    client(workdir).set_tag(run_id, key, "These are the trials for the paper.")
    assert makemore(*PLAIN, "study.n_trials=3").code == 0
    assert client(workdir).get_run(run_id).data.tags[key] == "These are the trials for the paper."
