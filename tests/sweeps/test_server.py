"""Runs recorded on a real MLflow server."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Server, call, start
from fake_tasks import FAKE


@pytest.mark.slow
def test_a_study_is_recorded_on_a_server_with_its_files(tmp_path: Path, server: str) -> None:
    folder = tmp_path / "client"
    folder.mkdir()

    tiny = ("study.n_trials=2", "pruner=none", "train.steps=20", "train.evaluations=2")
    out = call(folder, "sweep", "study.name=a", f"tracking.uri={server}", *tiny)
    assert "View run" not in out
    assert len(json.loads(call(folder, "compare", "study.name=a", "format=json", f"tracking.uri={server}"))) == 2
    assert "are not among the training words" in call(folder, "sample", "n=3", f"tracking.uri={server}")
    assert not (folder / "mlruns" / "mlflow.db").exists()
    assert not (folder / "mlruns" / "artifacts").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "workers"), [pytest.param(signal.SIGSTOP, 2, marks=pytest.mark.nightly), (signal.SIGKILL, 1)]
)
def test_an_interrupt_while_the_server_is_away_ends_soon_and_is_explained(
    tmp_path: Path, mlflow_server: Server, how: signal.Signals, workers: int
) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    waits = ("task=waits", "task.then_diverges=false", "task.level=1.0,2.0")
    sweep = ("sweep", *FAKE, *waits, "study.name=a", "study.n_trials=2", f"study.workers={workers}")
    process = start(*sweep, f"tracking.uri={mlflow_server.address}", cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "waiting").exists():
        assert time.monotonic() < deadline, "no trial began within a minute"
        time.sleep(0.1)
    mlflow_server.send(how)
    (folder / "go").touch()  # the trial ends, and its end is sent to nobody
    time.sleep(3)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert time.monotonic() - pressed < 60
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "how the study stands could not be recorded" in errors
    assert errors.splitlines()[-1] == "makemore: interrupted; the same command goes on"
