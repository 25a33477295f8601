"""Studies from the command line, on real SQLite databases."""

import json
import re
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore, start
from fake_tasks import FAKE
from hydra import compose, initialize_config_dir
from mlflow.exceptions import MlflowException

import makemore.data as word_lists
import sweeps.task.items
from makemore.data import read_words
from sweeps.config.files import conf_dir
from sweeps.config.reading import read_node
from sweeps.search.space import Space, SpaceConfig, corners, read_space
from sweeps.search.sweep_words import format_override
from sweeps.task.run_config import read_run_config
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=20", "train.evaluations=2", "train.batch_size=8", "model.hidden_neurons=int(interval(4,16))")
ONE = ("study.workers=1", "study.confirm.top=0")  # in this process, and nothing but the search
STUDY = ("sweep", "study.name=a", "pruner=none", *ONE, *TINY)
FAKE_STUDY = ("sweep", *FAKE, "study.name=a", "pruner=none", *ONE, "task.level=interval(1,2)")


def trials(folder: Path, name: str = "a") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def runs(folder: Path, kind: str) -> list[Any]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("makemore")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'"))


def test_a_study_goes_on_to_its_new_total(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*STUDY, "study.n_trials=3").code == 0
    first = trials(workdir)
    answer = makemore(*STUDY, "study.n_trials=5")
    assert answer.code == 0
    both = trials(workdir)
    assert [trial.number for trial in both] == [0, 1, 2, 3, 4]
    assert [trial.params for trial in both[:3]] == [trial.params for trial in first]
    assert len({json.dumps(trial.params) for trial in both}) == 5
    [parent] = runs(workdir, "study")
    children = runs(workdir, "trial")
    assert len(children) == 5
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert sorted(path.name for path in (workdir / "mlruns/outputs/a").iterdir()) == ["0", "1", "2", "3", "4"]
    assert makemore(*STUDY, "study.n_trials=5").code == 0  # has its total: nothing to do
    assert len(trials(workdir)) == 5


def test_a_resumed_study_draws_what_an_uninterrupted_one_would(makemore: Makemore, workdir: Path) -> None:
    for total in (2, 4):
        makemore(*STUDY, "sampler=random", f"study.n_trials={total}")
    makemore("sweep", "study.name=b", "pruner=none", *ONE, *TINY, "sampler=random", "study.n_trials=4")
    makemore("sweep", "study.name=c", "pruner=none", *ONE, *TINY, "sampler=random", "study.n_trials=4", "study.seed=1")
    a, b, c = ([trial.params for trial in trials(workdir, name)] for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("model.embedding_size=5", "space model.embedding_size was Int"),
        ("train.steps=30", "train.steps was 20, is 30"),
        ("schedule.lr=1e-3,1e-2", "space schedule.lr was Float"),
        ("data.split_seed=1", "data.split_seed was 42, is 1"),
    ],
)
def test_another_study_under_the_same_name_is_refused_with_the_difference(
    makemore: Makemore, workdir: Path, change: str, difference: str
) -> None:
    makemore(*STUDY, "study.n_trials=1")
    answer = makemore(*STUDY, "study.n_trials=2", change)
    assert answer.code == 2
    assert difference in answer.err
    assert answer.err.count("\n") == 1
    assert len(trials(workdir)) == 1


def test_a_trial_is_recorded_whole(makemore: Makemore, workdir: Path) -> None:
    makemore(*STUDY, "study.n_trials=2")
    for trial in trials(workdir):
        [run] = [run for run in runs(workdir, "trial") if run.data.tags["trial_number"] == str(trial.number)]
        assert run.info.status == "FINISHED"
        assert run.data.tags["trial_state"] == "COMPLETE"
        assert run.data.tags["study"] == "a"
        assert len(run.data.tags["mlflow.source.git.commit"]) == 40
        assert "version.torch" in run.data.tags
        for key, value in trial.params.items():
            assert run.data.params[key] == str(value)
        assert run.data.params["trial_number"] == str(trial.number)
        assert {"data", "data.split", "model", "optimizer", "schedule", "train.steps", "seed"} <= set(run.data.params)
        assert run.data.params["task"] == "language_model"
        metrics = run.data.metrics
        assert metrics["best_dev_loss"] == trial.value
        expected = {"train_loss", "dev_loss", "lr", "train_seconds", "steps_per_second", "evaluation_seconds"}
        assert expected | {"parameters"} <= set(metrics)
        assert trial.user_attrs["run_id"] == run.info.run_id
        assert trial.user_attrs["weights_digest"] == run.data.tags["weights_digest"]
        digests = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
        assert set(digests) == {"given_names-disjoint-train", "given_names-disjoint-dev"}
        files = {path.name for path in (workdir / "mlruns/artifacts" / run.info.run_id / "artifacts").iterdir()}
        assert files == {"config.yaml", "weights.safetensors", "dev_losses.safetensors", "samples.txt"}
        assert (workdir / "mlruns/outputs/a" / str(trial.number) / ".hydra/config.yaml").is_file()


def test_the_summary_and_compare_name_the_best_first(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*STUDY, "study.n_trials=4")
    best = min(trials(workdir), key=lambda trial: trial.value or 0)
    assert f"winner: trial {best.number}, dev loss {best.value:.4f}" in answer.out
    assert f"weights {best.user_attrs['weights_digest'][:12]}" in answer.out
    table = json.loads(makemore("compare", "study.name=a", "format=json").out)
    losses = sorted(trial.value or 0 for trial in trials(workdir))
    assert [row["best_dev_loss"] for row in table] == pytest.approx(losses, abs=1e-14)
    assert table[0]["model.hidden_neurons"] == best.params["model.hidden_neurons"]
    assert table[0]["run_id"] == best.user_attrs["run_id"]
    lines = makemore("compare", "study.name=a", "format=csv", "top=2").out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("trial,state,best_dev_loss")
    assert makemore("compare", "format=markdown").out.startswith("|   trial | state")
    assert makemore("compare").out.startswith("study a\n")


def test_samples_come_from_the_winner_and_tell_new_from_known(makemore: Makemore, workdir: Path) -> None:
    makemore(*STUDY, "study.n_trials=2")
    first, again = (makemore("sample", "study.name=a", "n=30") for _ in range(2))
    assert first.code == 0
    assert first.out == again.out
    *words, count = first.out.splitlines()
    assert len(words) == 30
    assert count.endswith("of 30 are not among the training words)")
    best = min(trials(workdir), key=lambda trial: trial.value or 0)
    assert makemore("sample", f"run={best.user_attrs['run_id']}", "n=30").out == first.out
    assert makemore("sample", "study.name=a", "n=30", "seed=1").out != first.out
    known = set(read_words(word_lists.GIVEN_NAMES))
    begun = makemore("sample", "study.name=a", "n=400", "prefix=mar", "temperature=0.5").out.splitlines()[:-1]
    assert all(word.startswith("mar") for word in begun)
    assert any(word.endswith("  (in train)") for word in begun)
    assert all(word.removesuffix("  (in train)") in known for word in begun if " " in word)
    refused = makemore("sample", "study.name=a", "prefix=Q")
    assert (refused.code, "prefix is Q; Q is not " in refused.err) == (2, True)


def test_a_failed_trial_is_recorded_with_its_reason_and_the_study_goes_on(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*FAKE_STUDY, "task=fails", "task.at=1", "study.n_trials=3")
    assert answer.code == 0
    assert "trial 1 failed: OSError: the disk is full" in answer.err
    states = [trial.state.name for trial in trials(workdir)]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials(workdir)[1].user_attrs["reason"] == "OSError: the disk is full"
    [failed] = [run for run in runs(workdir, "trial") if run.info.status == "FAILED"]
    assert failed.data.tags["trial_state"] == "FAIL"
    assert failed.data.tags["reason"] == "OSError: the disk is full"
    table = json.loads(makemore("compare", "study.name=a", "format=json").out)
    assert table[-1]["state"] == "FAIL"


def test_a_trial_whose_folder_cannot_be_written_has_failed(makemore: Makemore, workdir: Path) -> None:
    in_the_way = workdir / "mlruns/outputs/a/1"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    answer = makemore(*STUDY, "study.n_trials=2")
    assert (answer.code, "trial 1 failed: [Errno 17] File exists" in answer.err) == (0, True)
    assert [trial.state.name for trial in trials(workdir)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials(workdir)[1].user_attrs["reason"].startswith("[Errno 17] File exists")


def fail_to_send(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """MLflow is away the so manieth time that metrics are sent: no real server can be made to fail at one call."""
    log_batch, calls = MlflowClient.log_batch, iter(range(100))

    def log(client: MlflowClient, run_id: str, metrics: Any = (), **more: Any) -> None:
        if metrics and next(calls) == at:
            raise MlflowException("the server is away")
        log_batch(client, run_id, metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", log)


def test_what_mlflow_did_not_take_at_first_is_in_the_record_of_the_failed_trial(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_send(monkeypatch, 1)
    assert makemore(*STUDY, "study.n_trials=2").code == 0
    assert [trial.state.name for trial in trials(workdir)] == ["COMPLETE", "FAIL", "COMPLETE"]
    [failed] = [run for run in runs(workdir, "trial") if run.info.status == "KILLED"]
    assert failed.data.tags["trial_state"] == "FAIL"
    assert failed.data.tags["reason"] == "not recorded: MlflowException: the server is away"
    assert "best_dev_loss" in failed.data.metrics
    assert trials(workdir)[2].user_attrs["retry_of"] == 1  # it was not the setting's fault


def test_a_single_run_that_mlflow_did_not_take_at_first_is_closed_as_failed(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_send(monkeypatch, 0)
    answer = makemore("train", *TINY[:3])
    assert (answer.code, "MlflowException: the server is away" in answer.err) == (1, True)
    [run] = runs(workdir, "train")
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "MlflowException: the server is away")
    assert "best_dev_loss" in run.data.metrics


def test_a_run_that_fails_while_its_files_are_written_stores_none(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", *FAKE, "task=cannot_draw")
    assert (answer.code, "OSError: the disk is full" in answer.err) == (1, True)
    [run] = runs(workdir, "train")
    assert run.info.status == "FAILED"
    assert not [path for path in (workdir / "mlruns/artifacts").rglob("*") if path.is_file()]


def test_known_good_settings_are_tried_first_and_only_once(makemore: Makemore, workdir: Path) -> None:
    wide = "model.hidden_neurons=int(interval(100,300))"  # the space that the lecture's sizes is in
    arguments = ("sweep", "study.name=a", "pruner=none", *ONE, *TINY[:3], wide, "model.block_size=4")
    for total in (1, 3):
        assert makemore(*arguments, f"study.n_trials={total}").code == 0
    first, *others = [trial.params for trial in trials(workdir)]
    assert first["model.hidden_neurons"] == 200
    assert first["model.embedding_size"] == 10
    assert "model.block_size" not in first  # fixed on the command line
    assert all(params["model.embedding_size"] != 10 for params in others)


def test_a_diverged_trial_is_pruned_at_once_and_never_wins(makemore: Makemore, workdir: Path) -> None:
    words = ("optimizer=sgd", "optimizer.weight_decay=0", "schedule=constant", "schedule.lr=0.1,1e30")
    arguments = ("sweep", "study.name=a", "space=none", *ONE, "sampler=grid", *TINY[:3], *words)
    assert makemore(*arguments, "study.n_trials=2").code == 0
    by_state = {trial.state.name: trial for trial in trials(workdir)}
    assert set(by_state) == {"COMPLETE", "PRUNED"}
    assert by_state["PRUNED"].params["schedule.lr"] == 1e30
    assert by_state["PRUNED"].value == float("inf")
    [run] = [run for run in runs(workdir, "trial") if run.info.status == "KILLED"]
    assert run.data.tags["trial_state"] == "PRUNED"
    assert run.data.tags["reason"].startswith("Diverged: ")


def test_counts_are_searched_and_an_infinite_loss_never_wins(makemore: Makemore, workdir: Path) -> None:
    arguments = ("sweep", "study.name=a", "space=ngram", "study.workers=1", "model.order=range(1,4)")
    answer = makemore(*arguments, "model.smoothing=choice(0.0, 0.3)")
    assert answer.code == 0
    assert "of the space was tried: 6 trials" in answer.err
    infinite = [trial for trial in trials(workdir) if trial.state.name == "PRUNED"]
    assert sorted(trial.params["model.order"] for trial in infinite) == [2, 3]
    for trial in infinite:
        assert (trial.params["model.smoothing"], trial.value) == (0.0, float("inf"))
        assert trial.user_attrs["pruning_reason"].startswith("InfiniteLoss: the dev loss is infinite: ")
    study = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db")
    assert study.best_trial.params == {"model.order": 3, "model.smoothing": 0.3}
    assert f"winner: trial {study.best_trial.number}, dev loss {study.best_value:.4f}" in answer.out
    [best] = json.loads(makemore("compare", "study.name=a", "top=1", "format=json").out)
    assert (best["model.order"], best["best_dev_loss"]) == (3, pytest.approx(study.best_value))


def test_a_pruned_trial_stops_early_and_keeps_its_curve(makemore: Makemore, workdir: Path) -> None:
    arguments = ("pruner=median", "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0", "train.evaluations=10")
    assert makemore(*STUDY, "study.n_trials=8", *arguments).code == 0
    pruned = [trial for trial in trials(workdir) if trial.state.name == "PRUNED"]
    assert pruned
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    for trial in pruned:
        [run] = [run for run in runs(workdir, "trial") if run.data.tags["trial_number"] == str(trial.number)]
        assert (run.info.status, run.data.tags["trial_state"]) == ("KILLED", "PRUNED")
        curve = [point.value for point in client.get_metric_history(run.info.run_id, "dev_loss")]
        assert curve == list(trial.intermediate_values.values())
        assert len(curve) < 10
        assert "best_dev_loss" not in run.data.metrics


@pytest.mark.parametrize("pruner", ["hyperband", "asha", "median", "patient", "none"])
def test_every_pruner_runs_a_study(makemore: Makemore, workdir: Path, pruner: str) -> None:
    rates = "schedule.lr=tag(log, interval(1e-5, 1e-1))"  # the lowest of them learn nothing
    assert makemore(*STUDY, "study.n_trials=12", "train.evaluations=9", f"pruner={pruner}", rates).code == 0
    states = [trial.state.name for trial in trials(workdir)]
    assert len(states) == 12
    assert pruner == "patient" or ("PRUNED" in states) == (pruner != "none")  # so few evaluations try no patience


def test_a_study_stops_at_its_timeout_and_goes_on_later(makemore: Makemore, workdir: Path) -> None:
    study = (*FAKE_STUDY, "task=slow", "task.seconds=0.05")  # half a second a trial
    answer = makemore(*study, "study.n_trials=5000", "study.timeout=4")
    assert answer.code == 0
    assert "study.timeout is over" in answer.err
    done = sum(trial.state.name == "COMPLETE" for trial in trials(workdir))
    assert 0 < done < 5000
    assert makemore(*study, f"study.n_trials={done + 1}").code == 0
    assert sum(trial.state.name == "COMPLETE" for trial in trials(workdir)) == done + 1


def test_the_timeout_leaves_the_time_that_confirming_takes(makemore: Makemore, workdir: Path) -> None:
    arguments = ("study.n_trials=5000", "study.timeout=8", "study.confirm.top=2", "study.confirm.seeds=2")
    begun = time.monotonic()
    answer = makemore(*STUDY, *arguments, "train.steps=1000")
    assert answer.code == 0
    assert time.monotonic() - begun < 8 + 3  # what follows is the summary
    assert "trained again with fresh seeds" in answer.out


def test_a_trial_that_the_timeout_cuts_short_is_tried_again(makemore: Makemore, workdir: Path) -> None:
    slow = (*FAKE_STUDY, "task=slow", "task.seconds=0.4", "study.n_trials=1")  # four seconds a trial
    assert makemore(*slow, "study.timeout=3").code == 1
    cut = trials(workdir)[0]
    assert (cut.state.name, cut.user_attrs["reason"]) == ("FAIL", "interrupted")
    assert [run.info.status for run in runs(workdir, "trial")] == ["KILLED"]
    assert makemore(*slow).code == 0
    assert trials(workdir)[1].params == cut.params


def test_the_best_settings_are_trained_again_and_the_lowest_mean_wins(makemore: Makemore, workdir: Path) -> None:
    confirm = ("study.confirm.top=2", "study.confirm.seeds=3", "seed=5")
    answer = makemore(*STUDY, *confirm, "study.n_trials=5")
    assert answer.code == 0
    best = sorted(trials(workdir), key=lambda trial: trial.value or 0)[:2]
    means = {}
    for trial in best:
        mine = [run for run in runs(workdir, "confirm") if run.data.tags["trial_number"] == str(trial.number)]
        assert {run.data.params["seed"] for run in mine} == {"6", "7", "8"}  # the search used 5
        assert {run.data.tags["mlflow.parentRunId"] for run in mine} == {trial.user_attrs["run_id"]}
        for key, value in trial.params.items():
            assert {run.data.params[key] for run in mine} == {str(value)}
        losses = [run.data.metrics["best_dev_loss"] for run in mine]
        means[trial.number] = statistics.mean(losses)
        row = next(line for line in answer.out.splitlines() if re.fullmatch(rf" +{trial.number}( +\S+){{4}}", line))
        figures = [trial.value, means[trial.number], statistics.stdev(losses), means[trial.number] - (trial.value or 0)]
        assert row.split() == [str(trial.number), *(f"{figure:.4f}" for figure in figures)]
    winner = min(means, key=lambda number: means[number])
    assert f"winner: trial {winner}, mean dev loss {means[winner]:.4f}" in answer.out
    table = json.loads(makemore("compare", "format=json").out)
    assert {row["trial"]: row["confirmed_mean"] for row in table if row["confirmed_mean"]} == pytest.approx(means)
    run_id = trials(workdir)[winner].user_attrs["run_id"]
    assert makemore("sample", "n=5").out == makemore("sample", "n=5", f"run={run_id}").out
    assert makemore(*STUDY, *confirm, "study.n_trials=5").out == answer.out
    assert len(runs(workdir, "confirm")) == 6  # nothing was done twice


def test_a_longer_search_confirms_its_new_best(makemore: Makemore, workdir: Path) -> None:
    confirm = ("study.confirm.top=1", "study.confirm.seeds=2")
    for total in (1, 8):
        answer = makemore(*STUDY, *confirm, f"study.n_trials={total}")
    best = min(trials(workdir), key=lambda trial: trial.value or 0)
    assert best.number > 0
    assert f"winner: trial {best.number}, mean dev loss" in answer.out
    assert len(runs(workdir, "confirm")) == 4


def test_fresh_seeds_are_others_than_the_one_that_the_space_fixes(makemore: Makemore, workdir: Path) -> None:
    arguments = ("space=none", "model.hidden_neurons=4,8", "+space.params.seed=7", "study.n_trials=2")
    assert makemore("sweep", *ONE[:1], *TINY[:3], *arguments, "study.name=a", "study.confirm.top=1").code == 0
    assert {run.data.params["seed"] for run in runs(workdir, "confirm")} == {"8", "9", "10"}


def test_a_run_that_failed_to_confirm_is_repeated_when_the_study_goes_on(makemore: Makemore, workdir: Path) -> None:
    confirm = ("study.n_trials=2", "study.confirm.top=1", "study.confirm.seeds=1", "task=fails", "task.at=2")
    answer = makemore(*FAKE_STUDY, *confirm)
    assert answer.code == 0
    assert "(not confirmed with fresh seeds)" in answer.out
    assert "trained again with fresh seeds" in makemore(*FAKE_STUDY, *confirm).out


def test_a_study_without_a_finished_trial_can_be_compared(makemore: Makemore, workdir: Path) -> None:
    assert (
        makemore(*STUDY, "study.n_trials=1", "optimizer=sgd", "optimizer.weight_decay=0", "schedule.lr=1e30").code == 1
    )
    answer = makemore("compare", "study.name=a")
    assert answer.code == 0
    assert "PRUNED" in answer.out


def test_every_point_of_a_grid_is_tried_once_by_several_workers(makemore: Makemore, workdir: Path) -> None:
    grid = ("sweep", "study.name=a", "space=none", "sampler=grid", "study.confirm.top=0", *TINY[:3])
    words = ("model.block_size=2,3,4", "model.hidden_neurons=4,8")
    answer = makemore(*grid, *words, "study.workers=2")
    assert answer.code == 0
    assert "of the space was tried: 6 trials" in answer.err
    assert len({json.dumps(trial.params) for trial in trials(workdir)}) == len(trials(workdir)) == 6


def test_a_point_of_a_grid_that_was_interrupted_is_tried_again(makemore: Makemore, workdir: Path) -> None:
    fake = ("task=interrupted", "task.at=2", "task.level=2,3,4")
    arguments = ("sweep", *FAKE, "study.name=a", "sampler=grid", "pruner=none", *ONE, *fake)
    assert makemore(*arguments).code == 130
    assert makemore(*arguments).code == 0
    done = [trial.params["task.level"] for trial in trials(workdir) if trial.state.name == "COMPLETE"]
    assert sorted(done) == [2, 3, 4]


def make_hearts_stop(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlruns/study.db")) as database, database:
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01'")


@contextmanager
def held(folder: Path, database: str) -> Iterator[None]:
    """While inside, whoever writes to a database waits: in the middle of its work, where it can be killed."""
    with closing(sqlite3.connect(folder / "mlruns" / database, isolation_level=None, timeout=60)) as connection:
        connection.execute("begin immediate")
        yield
        connection.execute("rollback")


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "the study ended before"
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.05)


@pytest.fixture
def waiting(workdir: Path) -> Iterator["subprocess.Popen[str]"]:
    """A study whose only trial has trained, and ends when there is a file `go`."""
    process = start(*WAITING, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((workdir / "waiting").exists, process)
    yield process
    process.kill()
    process.wait()


WAITING = (*FAKE_STUDY, "task=waits", "study.n_trials=1")


def is_recorded(folder: Path) -> bool:
    """Whether all of the trial's run has been sent to MLflow, but for its status."""
    return "trial_state" in runs(folder, "trial")[0].data.tags


@pytest.mark.slow
def test_a_run_whose_worker_died_after_its_trial_was_told_is_whole(
    makemore: Makemore, workdir: Path, waiting: "subprocess.Popen[str]"
) -> None:
    with ExitStack() as stack:
        with held(workdir, "study.db"):
            (workdir / "go").touch()
            wait_until(lambda: is_recorded(workdir), waiting)
            stack.enter_context(held(workdir, "mlflow.db"))
        wait_until(lambda: trials(workdir)[0].state.name == "COMPLETE", waiting)
        waiting.kill()
        waiting.wait()
    assert [run.info.status for run in runs(workdir, "trial")] == ["RUNNING"]
    assert makemore(*WAITING).code == 0
    [run] = runs(workdir, "trial")
    assert (run.info.status, run.data.tags["trial_state"]) == ("FINISHED", "COMPLETE")
    assert run.data.metrics["best_dev_loss"] == trials(workdir)[0].value
    assert run.data.tags["weights_digest"] == trials(workdir)[0].user_attrs["weights_digest"]


@pytest.mark.slow
def test_a_trial_whose_worker_died_before_it_was_told_is_repeated(
    makemore: Makemore, workdir: Path, waiting: "subprocess.Popen[str]"
) -> None:
    with held(workdir, "study.db"):
        (workdir / "go").touch()
        wait_until(lambda: is_recorded(workdir), waiting)
        waiting.kill()
        waiting.wait()
    [run] = runs(workdir, "trial")
    assert (run.info.status, run.data.tags["trial_state"]) == ("RUNNING", "COMPLETE")  # which nobody was told
    make_hearts_stop(workdir)
    assert makemore(*WAITING).code == 0
    assert [trial.state.name for trial in trials(workdir)] == ["FAIL", "COMPLETE"]
    again, dead = runs(workdir, "trial")
    assert (dead.info.status, dead.data.tags["trial_state"]) == ("KILLED", "FAIL")
    assert dead.data.tags["reason"] == "its worker died"
    assert again.data.metrics["best_dev_loss"] == dead.data.metrics["best_dev_loss"]


@pytest.mark.slow
def test_a_trial_whose_worker_died_while_it_told_of_its_pruning_is_repeated(makemore: Makemore, workdir: Path) -> None:
    diverging = (*WAITING, "task.then_diverges=true")
    process = start(*diverging, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((workdir / "waiting").exists, process)
    with closing(sqlite3.connect(workdir / "mlruns/study.db", timeout=60)) as database:
        # The reason is told; the state, which is next, is never written: the database counts for ages before it.
        ages = ", ".join(f"sqlite_master t{number}" for number in range(12))
        database.execute(f"create trigger ages before update of state on trials begin select count(*) from {ages}; end")
        (workdir / "go").touch()
        wait_until(lambda: "pruning_reason" in trials(workdir)[0].user_attrs, process)
        process.kill()
        process.wait()
        database.execute("drop trigger ages")
    assert trials(workdir)[0].user_attrs["pruning_reason"].startswith("Diverged: ")
    make_hearts_stop(workdir)
    assert makemore(*diverging).code == 1  # no trial is complete
    assert [trial.state.name for trial in trials(workdir)] == ["FAIL", "PRUNED"]
    again, dead = runs(workdir, "trial")
    assert (dead.info.status, dead.data.tags["reason"]) == ("KILLED", "its worker died")
    assert (again.data.tags["trial_state"], trials(workdir)[1].user_attrs["retry_of"]) == ("PRUNED", 0)


def test_a_study_whose_storage_is_gone_is_not_mixed_with_its_runs(makemore: Makemore, workdir: Path) -> None:
    makemore(*STUDY, "study.n_trials=1")
    answer = makemore(*STUDY, "study.n_trials=1", "study.storage=sqlite:///mlruns/other.db")
    assert answer.code == 2
    assert "tracking.uri has runs of it, but study.storage has no such study" in answer.err
    assert len(runs(workdir, "trial")) == 1


def test_a_timeout_before_the_first_trial_says_so(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*STUDY, "study.timeout=1e-9")
    assert answer.code == 1
    assert "stopped at 0 of 40 trials: study.timeout is over" in answer.err


def test_how_a_winner_is_chosen_cannot_be_changed_afterwards(makemore: Makemore, workdir: Path) -> None:
    makemore(*STUDY, "study.n_trials=1")
    answer = makemore(*STUDY, "study.n_trials=1", "study.confirm.top=3")
    assert answer.code == 2
    assert "confirm.top was 0, is 3" in answer.err


def test_a_parameter_is_searched_only_under_its_condition(makemore: Makemore, workdir: Path) -> None:
    space = ("schedule=choice(step,cosine)", "schedule.decay_at=interval(0.3,0.9)", "optimizer=adamw")
    condition = "+space.conditions={schedule.decay_at: {schedule: step}}"
    assert makemore(*STUDY, *space, condition, "schedule.lr=0.01", "study.n_trials=12").code == 0
    by_schedule = {trial.params["schedule"]: trial for trial in trials(workdir)}
    assert set(by_schedule) == {"step", "cosine"}
    for trial in trials(workdir):
        assert ("schedule.decay_at" in trial.params) == (trial.params["schedule"] == "step")


def test_no_trial_has_more_weights_than_the_space_allows(makemore: Makemore, workdir: Path) -> None:
    wide = "model.hidden_neurons=int(interval(4,400))"
    assert makemore(*STUDY, wide, "space.constraints.parameters=3000", "study.n_trials=10").code == 0
    weights = [run.data.metrics["parameters"] for run in runs(workdir, "trial")]
    assert len(weights) == 10
    assert 1000 < max(weights) <= 3000


def test_no_complete_trial_is_exit_1(makemore: Makemore, workdir: Path) -> None:
    diverging = ("optimizer=sgd", "schedule=constant", "schedule.lr=1e30", "optimizer.weight_decay=0")
    answer = makemore(*STUDY, "study.n_trials=2", *diverging)
    assert answer.code == 1
    assert "no trial of study a is complete" in answer.err
    assert [run.info.status for run in runs(workdir, "study")] == ["FAILED"]


def test_a_combination_that_no_run_accepts_is_a_failed_trial_with_a_run(makemore: Makemore, workdir: Path) -> None:
    words = ("train.steps=choice(10,100)", "train.evaluations=choice(1,20)")  # 10 steps have no 20 evaluations
    arguments = (
        "sweep",
        "study.name=a",
        "space=none",
        *ONE,
        "sampler=grid",
        "pruner=none",
        "model.hidden_neurons=8",
        *words,
    )
    assert makemore(*arguments, "study.n_trials=4").code == 0
    [failed] = [trial for trial in trials(workdir) if trial.state.name == "FAIL"]
    assert "train.evaluations is 20; it must be >= 1 and <= 10" in failed.user_attrs["reason"]
    recorded = {run.data.tags["trial_number"]: run.data.tags["trial_state"] for run in runs(workdir, "trial")}
    assert recorded == {str(trial.number): trial.state.name for trial in trials(workdir)}


def test_a_study_without_its_records_is_refused(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*STUDY, "study.n_trials=1").code == 0
    answer = makemore(*STUDY, "study.n_trials=2", "tracking.experiment=other")
    assert answer.code == 2
    assert "study.storage has trials of it, but tracking.uri has no runs of them" in answer.err
    assert len(trials(workdir)) == 1


def test_samples_do_without_the_words_they_were_trained_on(makemore: Makemore, workdir: Path) -> None:
    towns = workdir / "towns.txt"
    towns.write_text("\n".join(f"{start}{end}" for start in ("Al", "Ber", "Ci", "Dor") for end in ("ba", "go", "ton")))
    assert makemore(*STUDY, "study.n_trials=1", "data=file", "data.path=towns.txt").code == 0
    assert "are not among the training words" in makemore("sample", "n=3").out
    towns.write_text(towns.read_text() + "\nElba")
    assert "the list of words has changed since" in makemore("sample", "n=3").out
    towns.unlink()
    answer = makemore("sample", "n=3")
    assert answer.code == 0
    assert "which of them are new cannot be said" in answer.out


def test_an_interrupted_study_says_so_and_goes_on_later(makemore: Makemore, workdir: Path) -> None:
    interrupted = (*FAKE_STUDY, "task=interrupted", "task.at=1", "study.n_trials=3")
    answer = makemore(*interrupted)
    assert answer.code == 130
    assert {run.info.status for run in runs(workdir, "trial")} == {"FINISHED", "KILLED"}
    assert makemore(*interrupted).code == 0
    assert sum(trial.state.name == "COMPLETE" for trial in trials(workdir)) == 3
    assert all(trial.state.is_finished() for trial in trials(workdir))
    [stopped] = [trial for trial in trials(workdir) if trial.state.name == "FAIL"]
    [again] = [trial for trial in trials(workdir) if trial.user_attrs.get("retry_of") == stopped.number]
    assert again.params == stopped.params


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "qmc", "gp", "cmaes"])
def test_every_sampler_runs_a_study(makemore: Makemore, workdir: Path, sampler: str) -> None:
    words = ("model.hidden_neurons=range(4,8)", "schedule.lr=range(0.01,0.03,0.01)")
    arguments = ("sweep", "study.name=a", "space=none", *ONE, *TINY[:3], *words, f"sampler={sampler}")
    assert makemore(*arguments, "study.n_trials=3").code == 0
    assert makemore(*arguments, "study.n_trials=9").code == 0
    seen = [json.dumps(trial.params) for trial in trials(workdir)]
    assert len(seen) == len(set(seen)) == 8  # 4 x 2 points, each once


class Untouchable:
    """A test split that explodes when anything is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was touched: {name}")

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("the test split was iterated")

    def __len__(self) -> int:
        raise AssertionError("the test split was measured")

    def __getitem__(self, index: object) -> int:
        raise AssertionError("the test split was indexed")


@pytest.mark.usefixtures("armed_door")
def test_no_command_but_the_final_test_touches_the_test_split(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.task.items._split.cache_clear()
    deal, dealt = word_lists.deal, []

    def guarded(words: Any, rule: str, seed: int) -> tuple[Any, Any, Any]:
        dealt.append(rule)
        train, dev, _ = deal(words, rule, seed)
        return train, dev, Untouchable()

    monkeypatch.setattr(word_lists, "deal", guarded)
    assert makemore(*STUDY, "study.n_trials=2").code == 0
    assert makemore(*STUDY, "study.name=b", "study.n_trials=2", "study.workers=2", "study.confirm.top=1").code == 0
    assert makemore("train", *TINY[:3], "data.split=lecture").code == 0
    assert makemore("compare", "study.name=a").code == 0
    assert makemore("sample", "study.name=a").code == 0
    assert makemore("looks").code == 0
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert makemore("final-test", "study.name=a").code == 2  # proves the winner, and asks before it looks
    assert makemore("lr-find", *TINY[:3], "model.hidden_neurons=8", "lr_find.steps=100").code == 0
    assert set(dealt) == {"disjoint", "lecture"}
    opened = makemore("final-test", "study.name=a", "final_test.confirm=true")  # the door is armed
    assert opened.code == 1
    assert "the door to the test split was opened" in opened.err
    sweeps.task.items._split.cache_clear()


@pytest.mark.parametrize("space", ["quick", "mlp", "lecture"])
def test_every_hyperparameter_of_every_space_changes_the_loss(space: str) -> None:
    """Each name alone, at two values of the space: a knob that is not connected gives the same loss twice."""

    def ignore(step: int, dev_loss: float, **metrics: float) -> None:
        pass

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[f"space={space}"])
        searched = read_space(read_node(SpaceConfig, cfg, "space"), [], lambda fixed: {})
        small = [f"space={space}", "train.steps=30", "train.evaluations=1"]
        for key, distribution in searched.distributions.items():
            losses = set()
            needed = [f"{other}={values[0]}" for other, values in searched.conditions.get(key, {}).items()]
            ends = corners(Space({key: distribution}, [], {}, None, []))
            for setting in ends:
                override = format_override(key, setting[key])
                run = read_run_config(compose("config", overrides=[*small, *needed, override]))
                split = run.deal_items().split
                trained = run.task.train(split.train, split.dev, run.seed, ignore)
                losses.add(float(run.task.losses(trained, split.dev)[0].sum()))
            assert len(losses) == len(ends), key


def test_patience_ends_a_search_that_finds_nothing_better(makemore: Makemore, workdir: Path) -> None:
    levels = (3, 1, 2, 4, 5, 6, 7, 8)
    listed = [f"{{task.level: {level}.0}}" for level in levels]
    given = ("+space.warm_start=[" + ",".join(listed) + "]", "task.level=interval(0.5,9.0)", "study.n_trials=8")
    study = ("sweep", *FAKE, "task=instant", "study.name=a", *ONE, *given)
    answer = makemore(*study, "study.patience=3")
    assert answer.code == 0, answer.err
    assert sum(trial.state.is_finished() for trial in trials(workdir)) == 5
    assert "stopped at 5 of 8 trials: none of the last 3 is better than trial 1" in answer.err
    assert makemore(*study, "study.patience=3").err.count("stopped at 5 of 8 trials") == 1
    assert makemore(*study).code == 0
    assert len(trials(workdir)) == 8
    assert makemore(*study, "study.patience=0").code == 2


def test_a_recorded_run_is_repeated_with_other_values_on_top(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*STUDY, "study.n_trials=2", "seed=7").code == 0
    first, again = runs(workdir, "trial")[0], ("train", f"run={runs(workdir, 'trial')[0].info.run_id}")
    assert makemore(*again).code == 0
    assert makemore(*again, "seed=8", "optimizer=sgd", "schedule.lr=0.5").code == 0
    changed, same = runs(workdir, "train")
    assert same.data.params == {key: value for key, value in first.data.params.items() if key != "trial_number"}
    assert same.data.tags["weights_digest"] == first.data.tags["weights_digest"]
    differs = {key for key, value in changed.data.params.items() if same.data.params.get(key) != value}
    assert differs >= {"seed", "optimizer", "schedule.lr"}
    assert differs <= {
        "seed",
        "optimizer",
        "schedule.lr",
        "optimizer.weight_decay",
        "optimizer.beta1",
        "optimizer.beta2",
        "optimizer.epsilon",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "run=f00"], "run is f00; sqlite:///"),
        (["train", "run=ID", "space=mlp"], "space is given together with run="),
        (["train", "run=ID", "experiment=capacity"], "experiment is given together with run="),
        (["sweep", "run=ID", "model.block_size=2,3"], "a study has many runs: makemore train run="),
    ],
)
def test_a_run_that_cannot_be_repeated_is_refused(
    makemore: Makemore, workdir: Path, arguments: list[str], message: str
) -> None:
    assert makemore("train", "train.steps=20").code == 0
    [run] = runs(workdir, "train")
    answer = makemore(*(word.replace("ID", run.info.run_id) for word in arguments))
    assert answer.code == 2
    assert message in answer.err
    assert len(runs(workdir, "train")) == 1
    assert not (workdir / "mlruns/study.db").exists()
