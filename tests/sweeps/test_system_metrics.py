"""The machine's state beside a run, where the user asks for it."""

from pathlib import Path

import pytest
from conftest import Makemore
from fake_tasks import FAKE

from sweeps.tracking import store
from sweeps.tracking.store import MlflowClient

TRAIN = ("train", "train.steps=20000", "train.targets=sampled", "train.batch_size=128")


def system_metrics(folder: Path) -> list[list[str]]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    return [[key for key in run.data.metrics if key.startswith("system/")] for run in client.search_runs(["1"])]


def test_the_machines_state_is_recorded_with_a_run(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*TRAIN, "tracking.system_metrics=0.1").code == 0
    [names] = system_metrics(workdir)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(names)


def test_nothing_of_it_is_recorded_by_default(makemore: Makemore, workdir: Path) -> None:
    assert makemore("train", *FAKE, "task=instant", "task.level=1.0").code == 0
    assert system_metrics(workdir) == [[]]


@pytest.mark.parametrize(
    ("value", "message"),
    [("0", "tracking.system_metrics is 0.0; it must be >= 0.1 and <= 3600"), ("often", "it must be a number or null")],
)
def test_a_wrong_interval_is_one_line(makemore: Makemore, workdir: Path, value: str, message: str) -> None:
    answer = makemore("train", f"tracking.system_metrics={value}")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert message in answer.err


def test_without_psutil_the_cure_is_named(makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda name: None)
    answer = makemore("train", "tracking.system_metrics=10")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert (
        "tracking.system_metrics is 10.0; it must be null, because the package psutil is missing: pip install psutil"
        in answer.err
    )


def test_the_commands_after_a_sweep_do_not_repeat_it(makemore: Makemore, workdir: Path) -> None:
    study = ("sweep", *FAKE, "task=instant", "task.level=1.0,2.0", "study.n_trials=2", "study.workers=1")
    answer = makemore(*study, "tracking.system_metrics=60")
    assert answer.code == 0
    assert "system_metrics" not in answer.out
