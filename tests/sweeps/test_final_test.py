"""The one look at the test split: claimed first, taken once, whatever races, dies or is altered."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import Makemore, call
from fake_tasks import FAKE
from sqlalchemy.exc import OperationalError

import sweeps.look.evaluation
import sweeps.look.final_test
import sweeps.tracking.looks
from makemore.data import GIVEN_NAMES, read_words
from sweeps.cli import run
from sweeps.databases import close_databases
from sweeps.look.record import Looks
from sweeps.task import held_out
from sweeps.task.held_out import read_test_items
from sweeps.task.language_model.task import LanguageModel
from sweeps.task.language_model.weights import load_weights
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=60", "train.evaluations=2", "model.hidden_neurons=int(interval(4,16))", "study.workers=1")
STUDY = ("sweep", "study.name=a", "study.n_trials=3", "study.confirm.top=2", "study.confirm.seeds=1", *TINY)
YES = "final_test.confirm=true"
ROUNDS = int(os.environ.get("MAKEMORE_RACE_ROUNDS", "2"))  # of races on PostgreSQL; on SQLite more
LOOK = ("final-test", "study.name=a", YES, "format=json")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("finished")
    call(folder, *STUDY)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the records of a finished study."""
    return copy_of(finished, tmp_path, monkeypatch)


def copy_of(finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "mlruns").mkdir(parents=True)
    for name in ("mlflow.db", "study.db"):
        shutil.copy(finished / "mlruns" / name, folder / "mlruns" / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))  # with a ledger of its own
    return folder


def records(folder: Path) -> list[Any]:
    return Looks(f"sqlite:///{folder}/mlruns/study.db").records()


def kinds(folder: Path) -> dict[str, int]:
    return Counter(record.kind for record in records(folder))


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")


def winner_of(folder: Path) -> optuna.trial.FrozenTrial:
    storage = f"sqlite:///{folder}/mlruns/study.db"
    confirmed = optuna.load_study(study_name="a (confirm)", storage=storage).best_trial.user_attrs["confirms"]
    return optuna.load_study(study_name="a", storage=storage).trials[confirmed]


def test_the_look_says_what_a_plain_computation_says_and_is_recorded_in_three_places(
    makemore: Makemore, study: Path, finished: Path
) -> None:
    answer = makemore(*LOOK)
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    trial = winner_of(study)
    assert (result["trial"], result["run_id"]) == (trial.number, trial.user_attrs["run_id"])
    saved = load_weights(finished / "mlruns/artifacts" / result["run_id"] / "artifacts/weights.safetensors")
    stoi, block_size = saved.alphabet.stoi, saved.config.block_size
    total, count = 0.0, 0
    for word in read_test_items(read_words(GIVEN_NAMES), "disjoint", 42):
        context = [0] * block_size
        for character in word + ".":
            logits = saved.module(torch.tensor([context]))
            total -= torch.log_softmax(logits.double(), 1)[0, stoi[character]].item()
            count += 1
            context = [*context[1:], stoi[character]]
    assert result["test_loss"] == pytest.approx(total / count, abs=1e-6)
    assert result["characters"] == count
    assert result["test_loss_low"] < result["test_loss"] < result["test_loss_high"]
    names = [one["name"] for one in result["baselines"]]
    assert names[:5] == ["uniform", *(f"{n}-gram counts" for n in (2, 3, 4)), "6-gram Kneser-Ney"]
    assert names[5:] == ["trial 0"] * (trial.number != 0)
    assert result["baselines"][0]["test_loss"] == pytest.approx(torch.tensor(27.0).log().item())
    assert result["gap"] == pytest.approx(result["test_loss"] - (trial.value or 0))
    [one] = client(study).search_runs(["1"], "tags.kind = 'final_test'")
    assert one.info.status == "FINISHED"
    assert one.data.metrics["test_loss"] == result["test_loss"]
    assert one.data.tags["look"] == "1"
    version = client(study).get_model_version_by_alias("makemore-given_names", "champion")
    assert version.run_id == result["run_id"]
    assert float(version.tags["test_loss"]) == result["test_loss"]
    assert kinds(study) == {"claim": 1, "result": 1}


def test_a_second_call_prints_the_record_and_reads_nothing(
    makemore: Makemore, study: Path, request: pytest.FixtureRequest
) -> None:
    first = makemore(*LOOK)
    request.getfixturevalue("armed_door")
    again = makemore(*LOOK)
    assert again.code == 3
    assert again.out == first.out
    text = makemore("final-test", "study.name=a")  # asks nothing: nothing is spent
    assert text.code == 3
    assert text.out.startswith(f"# Test loss {json.loads(first.out)['test_loss']:.4f} nats per character (look 1)")
    assert kinds(study) == {"claim": 1, "result": 1}


def test_a_second_call_reads_no_item_at_all(makemore: Makemore, workdir: Path) -> None:
    words = ("task=houses", "task.log=reads.txt", "task.level=1.0,2.0", "study.confirm.top=0", "study.workers=1")
    assert makemore("sweep", *FAKE, *words, "study.name=a", "study.n_trials=2").code == 0
    look = (LOOK[0], *FAKE[:2], *LOOK[1:])
    first = makemore(*look)
    assert first.code == 0, first.err
    (workdir / "reads.txt").unlink()
    again = makemore(*look)
    assert (again.code, again.out) == (3, first.out)
    assert not (workdir / "reads.txt").exists()


def test_a_study_that_was_looked_at_takes_no_more_trials(makemore: Makemore, study: Path) -> None:
    makemore(*LOOK)
    for total in (3, 4):
        answer = makemore(*STUDY, f"study.n_trials={total}")
        assert answer.code == 2
        assert "its winner's one look at the test split was taken by" in answer.err
    assert len(optuna.load_study(study_name="a", storage=f"sqlite:///{study}/mlruns/study.db").trials) == 3


def test_another_study_of_the_same_words_needs_a_reason_and_is_look_two(makemore: Makemore, study: Path) -> None:
    makemore(*LOOK)
    for name, more, share in (("b", (), "100%"), ("c", ("data.split_seed=1",), "%")):
        assert makemore(*STUDY, f"study.name={name}", "study.n_trials=1", *more).code == 0
        refused = makemore("final-test", f"study.name={name}", YES)
        assert refused.code == 2
        assert "its words, or many of them, have been looked at: look 1 by" in refused.err
        assert share in refused.err
    [spent] = [word for word in refused.err.split() if word.endswith("%")][:1]
    assert 5 < int(spent.rstrip("%")) < 15  # another seed deals a tenth of the words to the same part
    assert kinds(study) == {"claim": 1, "result": 1}
    answer = makemore("final-test", "study.name=b", YES, "final_test.reason=a bug in the first")
    assert answer.code == 0
    assert "(look 2)" in answer.out
    assert "look 1: study a, by" in answer.out
    [one] = client(study).search_runs(["1"], "tags.kind = 'final_test' and tags.study = 'b'")
    assert one.data.tags["look"] == "2"
    listed = makemore("looks")
    assert listed.code == 0
    losses = {one.content["study"]: f"{one.content['test_loss']:.4f}" for one in records(study) if one.kind == "result"}
    assert [line.split()[:3] for line in listed.out.splitlines()[1:3]] == [
        [name, look, losses[name]] for name, look in (("a", "1"), ("b", "2"))
    ]
    assert "reason: a bug in the first" in listed.out


def test_the_same_words_in_another_order_and_place_at_another_block_size_are_the_same_split(
    makemore: Makemore, workdir: Path
) -> None:
    words = GIVEN_NAMES.read_text(encoding="utf-8").split()
    for name, order, block_size in (("a", 1, 3), ("b", -1, 8)):
        path = workdir / f"{name}.txt"
        path.write_text("\n".join(words[::order]), encoding="utf-8")
        data = ("data=file", f"data.path={path}", f"model.block_size={block_size}", "study.n_trials=1")
        assert makemore(*STUDY, f"study.name={name}", *data).code == 0
    makemore(*LOOK)
    refused = makemore("final-test", "study.name=b", YES)
    assert refused.code == 2
    assert "which saw 100% of this test split" in refused.err


def test_a_look_for_a_winner_that_was_counted(makemore: Makemore, workdir: Path) -> None:
    sweep = ("sweep", "space=ngram", "study.workers=1", "model.smoothing=0.1", "model.order=1,2")
    assert makemore(*sweep, "study.name=a").code == 0
    answer = makemore(*LOOK)
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    bigrams = result["baselines"][1]
    assert bigrams["name"] == "2-gram counts"  # the same, but for the amount of smoothing
    assert abs(bigrams["difference"]) < 0.01
    assert result["test_loss"] == pytest.approx(bigrams["test_loss"] - bigrams["difference"])


def test_a_winner_that_finds_some_characters_impossible_is_not_looked_at(makemore: Makemore, workdir: Path) -> None:
    sweep = ("sweep", "space=ngram", "study.workers=1", "study.name=a", "model.smoothing=0.0", "model.order=1")
    assert makemore(*sweep, "model.discount=0.1,0.2").code == 0
    answer = makemore(*LOOK)
    assert answer.code == 2
    assert "its winner's model.smoothing is 0, so that its test loss may be infinite" in answer.err
    assert records(workdir) == []


def test_without_a_terminal_and_without_consent_nothing_is_spent(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    answer = makemore("final-test", "study.name=a")
    assert answer.code == 2
    assert "final_test.confirm is false" in answer.err
    assert records(study) == []


@pytest.mark.parametrize(("typed", "code"), [("yes", 0), ("no", 2), ("", 2)])
def test_at_a_terminal_it_says_what_it_is_about_to_do_and_asks(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    answer = makemore("final-test", "study.name=a")
    assert answer.code == code
    assert f"look 1 at these words, for study a, whose winner is trial {winner_of(study).number}" in answer.err
    told = " ".join(answer.err.split())
    assert "Expected from dev: a test loss with an interval of about +- " in told
    assert "The strongest baseline is " in told
    assert "Compared with: uniform, 2-gram counts, " in told
    assert len(records(study)) == (2 if code == 0 else 0)


def refuse_everything(answer: Any, message: str) -> None:
    assert answer.code == 2, answer.out + answer.err
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_a_study_that_has_no_winner_yet_is_refused(makemore: Makemore, study: Path) -> None:
    refuse_everything(makemore("final-test", YES), "study.name is not given")
    refuse_everything(makemore("final-test", "study.name=nobody", YES), "has no such study")
    refuse_everything(makemore("final-test", "study.name='a (confirm)'", YES), "it must be 1 to 100 of a-z")
    opened = optuna.load_study(study_name="a", storage=f"sqlite:///{study}/mlruns/study.db")
    opened.enqueue_trial({})
    trial = opened.ask()
    trial.set_user_attr("worker", "somebody")
    refuse_everything(makemore(*LOOK), "study.name is a; 1 of its trials are running")
    opened.tell(trial, state=optuna.trial.TrialState.FAIL)
    unconfirmed = ("study.confirm.top=3", "study.name=d", "study.n_trials=2", "study.timeout=1e-9")
    makemore(*STUDY, *unconfirmed)
    refuse_everything(makemore("final-test", "study.name=d", YES), "no trial of it is complete, so there is no winner")
    assert records(study) == []


def test_nothing_is_spent_where_there_are_no_records(makemore: Makemore, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    refuse_everything(makemore(*LOOK), "there are no records yet")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def weights_file(study: Path, finished: Path) -> Iterator[Path]:
    """Of the winner; put back as it was."""
    run_id = winner_of(study).user_attrs["run_id"]
    path = finished / "mlruns/artifacts" / run_id / "artifacts/weights.safetensors"
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


def test_weights_that_are_gone_or_altered_are_refused(makemore: Makemore, study: Path, weights_file: Path) -> None:
    content = weights_file.read_bytes()
    weights_file.unlink()
    refuse_everything(makemore(*LOOK), "has no weights.safetensors")
    weights_file.write_bytes(content[:-4] + b"\0\0\0\1")
    refuse_everything(makemore(*LOOK), "are not those that were recorded: altered")
    weights_file.write_bytes(content[:50])
    refuse_everything(makemore(*LOOK), "is not a weights file")
    assert records(study) == []


def test_a_recorded_dev_loss_that_the_weights_do_not_have_is_refused(makemore: Makemore, study: Path) -> None:
    with closing(sqlite3.connect(study / "mlruns/study.db")) as database, database:
        database.execute("update trial_values set value = value - 0.01")
    refuse_everything(makemore(*LOOK), "they are not the winner's")
    assert records(study) == []


def test_another_list_of_words_than_the_studys_is_refused(makemore: Makemore, workdir: Path) -> None:
    words = GIVEN_NAMES.read_text(encoding="utf-8").split()
    path = workdir / "names.txt"
    path.write_text("\n".join(words[:3000]), encoding="utf-8")
    makemore(*STUDY, "data=file", f"data.path={path}")
    path.write_text("\n".join(words[:2999]), encoding="utf-8")
    refuse_everything(makemore(*LOOK), "is not the list of words that it was made with")
    assert records(workdir) == []


def test_a_claim_that_cannot_be_written_means_that_nothing_is_read(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: object) -> None:
        raise AssertionError("the door to the test split was opened")

    monkeypatch.setattr(held_out, "read_test_items", explode)
    with closing(sqlite3.connect(study / "mlruns/study.db")) as database, database:
        database.execute("create trigger full before insert on looks begin select raise(abort, 'disk full'); end")
    answer = makemore(*LOOK)
    assert answer.code == 2
    assert "cannot be written" in answer.err
    assert records(study) == []


def test_a_claim_for_other_weights_is_never_completed(makemore: Makemore, study: Path) -> None:
    child(study, ("read_test_items", "before"))
    assert kinds(study) == {"claim": 1}
    with closing(sqlite3.connect(study / "mlruns/study.db")) as database, database:
        [(record,)] = database.execute("select record from looks").fetchall()
        database.execute(
            "update looks set record = ?", (record.replace(json.loads(record)["weights_digest"], "0" * 64),)
        )
    refuse_everything(makemore(*LOOK), "its look was claimed for weights_digest 000")


def look_in_a_process(folder: Path, reads: Path, kill: tuple[str, str] | None, storage: Sequence[str]) -> None:
    """Run the command; note each reading of the split in a file; die before or after a step."""
    os.chdir(folder)
    read = held_out.read_test_items

    def noted(*arguments: Any) -> list[str]:
        with reads.open("a") as file:
            file.write("read\n")
        return read(*arguments)

    held_out.read_test_items = noted
    if kill:
        place, name = STEPS[kill[0]]
        step = getattr(place, name)

        def deadly(*arguments: Any, **more: Any) -> Any:
            if name == "claim" and (arguments[0].by == "study_id") != (kill[0] == "claim in the ledger"):
                return step(*arguments, **more)
            if kill[1] == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = step(*arguments, **more)
            os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(place, name, deadly)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = run([*LOOK, *storage])
    os._exit(code)


MOMENTS = ("before", "after") if ROUNDS > 2 else ("after",)  # before a step is mostly after the one before it
STORAGE: list[str] = []  # further arguments, for another database
STEPS: dict[str, tuple[Any, str]] = {
    "claim in the ledger": (Looks, "claim"),
    "claim": (Looks, "claim"),
    "read_test_items": (held_out, "read_test_items"),
    "evaluate": (sweeps.look.evaluation, "evaluate"),
    "result": (Looks, "result"),
    "copy": (Looks, "copy"),
    "log_look": (sweeps.look.final_test, "log_look"),
    "start_run": (sweeps.tracking.looks, "start_run"),
    "log_figure": (MlflowClient, "log_figure"),
    "set_terminated": (MlflowClient, "set_terminated"),
    "create_registered_model": (MlflowClient, "create_registered_model"),
    "create_model_version": (MlflowClient, "create_model_version"),
    "set_registered_model_alias": (MlflowClient, "set_registered_model_alias"),
}


def child(folder: Path, kill: tuple[str, str] | None = None) -> int | None:
    return children(folder, 1, kill)[0]


def children(
    folder: Path, count: int, kill: tuple[str, str] | None = None, storages: Sequence[str] = ()
) -> list[int | None]:
    """Exit codes of so many processes that run the command at once, by turns with each of the storages."""
    context = multiprocessing.get_context("fork")
    arguments = [
        (folder, folder / "reads", kill, [*STORAGE, *storages[number % 2 : number % 2 + 1]]) for number in range(count)
    ]
    processes = [context.Process(target=look_in_a_process, args=own) for own in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def reads(folder: Path) -> int:
    return len((folder / "reads").read_text().split())


@pytest.mark.slow
def test_killed_at_any_step_the_same_command_ends_with_one_look_and_the_same_number(
    makemore: Makemore, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_of(finished, tmp_path / "whole", monkeypatch)
    expected = json.loads(makemore(*LOOK).out)["test_loss"]
    for step in STEPS:
        for moment in MOMENTS:
            folder = copy_of(finished, tmp_path / f"{step}-{moment}", monkeypatch)
            assert child(folder, (step, moment)) == -signal.SIGKILL
            result = makemore(*LOOK)
            assert result.code in (0, 3), (step, moment, result.err)
            assert json.loads(result.out)["test_loss"] == expected
            found = kinds(folder)
            assert (found["claim"], found["result"]) == (1, 1)
            attempts = found.get("attempt", 0)
            claimed = step != "claim in the ledger" and (step, moment) != ("claim", "before")
            early = ("claim in the ledger", "claim", "read_test_items", "evaluate")
            finished_before = step not in early and (step, moment) != ("result", "before")
            assert attempts == (claimed and not finished_before)
            assert result.code == (3 if finished_before else 0)
            listed = makemore("looks")
            assert listed.code == 0, (step, moment, listed.out)
            champion = client(folder).get_model_version_by_alias("makemore-given_names", "champion")
            assert float(champion.tags["test_loss"]) == expected
            statuses = [one.info.status for one in client(folder).search_runs(["1"], "tags.kind = 'final_test'")]
            assert statuses == ["FINISHED"]


def start_again(made: Path, folder: Path, *databases: str) -> None:
    """Put the records back as they were before anybody looked."""
    close_databases()
    (folder / "reads").unlink(missing_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)
    for name in databases:
        for left in ("-wal", "-shm"):  # by processes that ended without closing
            (folder / "mlruns" / f"{name}{left}").unlink(missing_ok=True)
        shutil.copy(made / "mlruns" / name, folder / "mlruns" / name)


def check_race(codes: list[int | None], folder: Path) -> None:
    assert sorted(code if code is not None else -1 for code in codes) == [0, *[3] * (len(codes) - 1)]
    assert reads(folder) == 1


@pytest.mark.slow
def test_of_processes_that_race_exactly_one_looks(
    makemore: Makemore, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(finished, tmp_path, monkeypatch)
    assert makemore(*LOOK).code == 0  # what this process has read and opened, those that it forks have too
    for count in [2] * (ROUNDS * 5 // 2) + [16]:
        start_again(finished, folder, "mlflow.db", "study.db")
        check_race(children(folder, count), folder)
        assert kinds(folder) == {"claim": 1, "result": 1}


@pytest.mark.slow
def test_of_processes_that_race_through_a_link_and_its_file_exactly_one_looks(
    makemore: Makemore, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(finished, tmp_path, monkeypatch)
    (folder / "linked.db").symlink_to(folder / "mlruns/study.db")
    storages = ("study.storage=sqlite:///mlruns/study.db", "study.storage=sqlite:///linked.db")
    for _ in range(2):
        start_again(finished, folder, "mlflow.db", "study.db")
        check_race(children(folder, 4, storages=storages), folder)
        assert kinds(folder) == {"claim": 1, "result": 1}


@pytest.mark.slow
def test_of_processes_that_race_on_postgresql_exactly_one_looks(
    tmp_path: Path, postgresql: tuple[str, str], psql: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    call(made, *STUDY, f"study.storage='{postgresql[0]}'")
    folder = tmp_path / "folder"
    (folder / "mlruns").mkdir(parents=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    for number in range(ROUNDS):
        start_again(made, folder, "mlflow.db")
        psql(f"create database round{number} template study;")
        url = postgresql[0].replace("/study", f"/round{number}")
        monkeypatch.setattr("test_final_test.STORAGE", [f"study.storage='{url}'"])
        check_race(children(folder, 2), folder)


def test_a_claim_that_names_the_list_otherwise_is_completed(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # as earlier versions named every list of a user's own
        patch.setattr(LanguageModel, "source", lambda task: ("file", GIVEN_NAMES))
        assert child(study, ("evaluate", "before")) == -signal.SIGKILL
    answer = makemore(*LOOK)
    assert answer.code == 0, answer.err
    assert kinds(study) == {"claim": 1, "attempt": 1, "result": 1}


def alter(folder: Path, database: str, statement: str) -> None:
    with closing(sqlite3.connect(folder / "mlruns" / database)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("database", "statement", "message"),
    [
        ("study.db", "update looks set record = replace(record, 'disjoint', 'lecture') where number = 1", "row 1"),
        ("study.db", "update looks set hash = '0' where number = 1", "row 1"),
        ("study.db", "delete from looks where number = 1", "row 1 is missing"),
        ("study.db", "delete from looks", "study a: tracking.uri has a look that the database lacks"),
        (
            "mlflow.db",
            "update latest_metrics set value = 1.5 where key = 'test_loss'",
            "the MLflow run has test_loss 1.5",
        ),
        (
            "mlflow.db",
            "update model_version_tags set value = '1.5' where key = 'test_loss'",
            "the registry has test_loss",
        ),
        ("mlflow.db", "delete from model_versions", "the registry is missing"),
    ],
)
def test_what_was_altered_is_found(
    makemore: Makemore, study: Path, database: str, statement: str, message: str
) -> None:
    assert child(study) == 0  # in a process of its own, so that no connection here holds what is altered
    alter(study, database, statement)
    answer = makemore("looks")
    assert answer.code == 1
    assert f"BROKEN: {message}" in answer.out or message in answer.out.partition("BROKEN: ")[2]


def test_a_look_that_the_database_lost_is_not_taken_again(makemore: Makemore, study: Path) -> None:
    assert child(study) == 0
    alter(study, "study.db", "delete from looks")
    refuse_everything(makemore(*LOOK), "tracking.uri has a look at its words for study a that study.storage lacks")
    assert records(study) == []


def test_what_was_seen_is_shown_also_where_it_cannot_be_copied(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*arguments: object) -> None:
        raise OSError("the server is down")

    with monkeypatch.context() as patch:
        patch.setattr(sweeps.look.final_test, "register_champion", down)
        answer = makemore(*LOOK)
    assert answer.code == 0
    assert "not yet copied to MLflow and the ledger (the server is down)" in answer.err
    assert json.loads(answer.out)["look"] == 1
    assert makemore("looks").code == 1
    assert makemore(*LOOK).code == 3
    assert makemore("looks").code == 0


def test_a_result_that_was_written_though_the_connection_broke_is_shown(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Looks.result

    def broken_once(looks: Looks, content: dict[str, Any]) -> Any:
        monkeypatch.setattr(Looks, "result", write)
        write(looks, content)
        raise OperationalError("commit", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(Looks, "result", broken_once)
    answer = makemore(*LOOK)
    assert answer.code == 0, answer.err
    assert "study.storage cannot be written now" in answer.err
    assert json.loads(answer.out)["test_loss"] > 0
    assert kinds(study) == {"claim": 1, "result": 1}


def test_an_experiments_name_that_no_model_can_have_is_no_obstacle(makemore: Makemore, workdir: Path) -> None:
    experiment = "tracking.experiment='team/names: a %'"
    assert makemore(*STUDY, experiment).code == 0
    assert makemore(*LOOK, experiment).code == 0
    assert client(workdir).get_model_version_by_alias("team-names--a---given_names", "champion").tags["study"] == "a"


def test_no_run_but_the_final_one_holds_anything_of_the_test_split(
    makemore: Makemore, study: Path, finished: Path
) -> None:
    result = json.loads(makemore(*LOOK).out)
    figures = {value for value in result.values() if isinstance(value, float)} - {
        result["dev_loss"],
        result["selection"],
    }
    figures -= {0.0, 1.0}
    for one in client(study).search_runs(["1"], max_results=1000):
        if one.data.tags["kind"] == "final_test":
            continue
        named = [key for key in (*one.data.metrics, *one.data.params, *one.data.tags) if "test" in key]
        assert named == []
        assert not figures & set(one.data.metrics.values())
        folder = finished / "mlruns/artifacts" / one.info.run_id
        for path in folder.rglob("*.*"):
            content = path.read_bytes()
            assert not [figure for figure in figures if repr(figure)[:8].encode() in content], path


def test_looks_of_nothing_are_nothing(makemore: Makemore, study: Path) -> None:
    answer = makemore("looks")
    assert (answer.code, answer.out) == (0, "no test split has been looked at\n")
