"""What version 0.1.0 recorded is read, goes on and takes its look; tests/old_store/make.py made it."""

import json
import tarfile
from pathlib import Path

import optuna
import pytest
from conftest import Makemore

from sweeps.tracking.store import MlflowClient

ARCHIVE = Path(__file__).parents[1] / "old_store" / "0.1.0.tar.xz"
# What the study was started with; now it has a larger total.
STUDY = (
    *("sweep", "study.name=old", "study.n_trials=6", "study.confirm.top=1", "study.confirm.seeds=1"),
    *("study.workers=1", "model.hidden_neurons=8", "train.steps=50", "train.evaluations=2"),
)


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the records of the version before, which were made in /old-store."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trials(folder: Path, name: str = "old") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def test_the_archive_is_small() -> None:
    assert ARCHIVE.stat().st_size < 400_000


@pytest.mark.parametrize("study", ["old", "counts"])
def test_an_old_study_is_compared(makemore: Makemore, old_store: Path, study: str) -> None:
    answer = makemore("compare", f"study.name={study}", "format=json")
    assert answer.code == 0, answer.err
    table = json.loads(answer.out)
    losses = {trial.number: trial.value for trial in trials(old_store, study) if trial.state.name == "COMPLETE"}
    assert {row["trial"]: row["best_dev_loss"] for row in table if row["state"] == "COMPLETE"} == pytest.approx(losses)
    assert len(table) == 4


def test_old_runs_are_paired_word_by_word(makemore: Makemore, old_store: Path) -> None:
    """They have no recorded loss for each word: it is computed from their weights."""
    answer = makemore("compare", "study.name=old", "studies=[counts]", "baseline=counts", "format=json")
    assert answer.code == 0, answer.err
    table = json.loads(answer.out)
    best = min(trial.value for trial in trials(old_store, "counts"))
    for row in table:
        if row["state"] == "COMPLETE":
            assert row["difference"] == pytest.approx(row["best_dev_loss"] - best, abs=1e-6)


@pytest.mark.parametrize("study", ["old", "counts"])
def test_an_old_winner_gives_samples(makemore: Makemore, old_store: Path, study: str) -> None:
    answer = makemore("sample", f"study.name={study}", "n=5")
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 6


def test_an_old_single_run_gives_samples(makemore: Makemore, old_store: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{old_store}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"], "tags.kind = 'train'")
    answer = makemore("sample", f"run={run.info.run_id}", "n=5")
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) == 6


@pytest.mark.slow
def test_an_old_study_goes_on_to_a_larger_total(makemore: Makemore, old_store: Path) -> None:
    before = trials(old_store)
    answer = makemore(*STUDY)
    assert answer.code == 0, answer.err
    after = trials(old_store)
    assert len([trial for trial in after if trial.state.name in ("COMPLETE", "PRUNED")]) == 6
    assert [trial.params for trial in after[:4]] == [trial.params for trial in before]
    assert [trial.value for trial in after[:4]] == [trial.value for trial in before]
    table = json.loads(makemore("compare", "study.name=old", "baseline=old", "format=json").out)  # old and new runs
    assert len(table) == 6
    client = MlflowClient(tracking_uri=f"sqlite:///{old_store}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"], "tags.kind = 'study' and tags.study = 'old'")
    assert (run.data.params["list"], run.data.params["train.steps"]) == ("given_names", "50")
    assert run.data.metrics["trials"] == 6
    assert "mlflow.sharedViewState.study-old" in client.get_experiment("1").tags


@pytest.mark.slow
@pytest.mark.parametrize("study", ["old", "counts"])
def test_an_old_winner_is_looked_at_once(makemore: Makemore, old_store: Path, study: str) -> None:
    look = ("final-test", f"study.name={study}", "final_test.confirm=true", "format=json")
    first = makemore(*look)
    assert first.code == 0, first.err
    again = makemore(*look)
    assert (again.code, again.out) == (3, first.out)
    assert makemore("looks").code == 0


def test_an_old_study_under_other_settings_is_refused(makemore: Makemore, old_store: Path) -> None:
    answer = makemore(*STUDY, "train.steps=60")
    assert answer.code == 2
    assert "train.steps was 50, is 60" in answer.err
