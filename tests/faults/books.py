"""The books of a study after a fault: what Optuna and MLflow have recorded agrees, and nothing is lost or left open."""

import math
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from fake_tasks import FAKE
from optuna.trial import FrozenTrial

from sweeps.databases import close_databases
from sweeps.tracking.store import MlflowClient

FINISHED = ("COMPLETE", "PRUNED")
STUDY = ("sweep", *FAKE, "study.name=a", "task=slow", "study.confirm.top=1", "study.confirm.seeds=1")


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 60) -> None:
    """Wait until a condition holds, while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def trials(folder: Path, name: str = "a") -> list[FrozenTrial]:
    """The trials of a study; none where it is not there yet."""
    if not (folder / "mlruns/study.db").exists():
        return []
    storage = f"sqlite:///{folder}/mlruns/study.db"
    return optuna.load_study(study_name=name, storage=storage).trials if name in _names(storage) else []


def _names(storage: str) -> list[str]:
    return optuna.get_all_study_names(storage)


def runs(folder: Path, kind: str, uri: str | None = None) -> list[Any]:
    """The runs of a kind of study a in MLflow."""
    client = MlflowClient(uri or f"sqlite:///{folder}/mlruns/mlflow.db")
    return list(client.search_runs(["1"], f"tags.kind = '{kind}' and tags.study = 'a'"))


def check_books(folder: Path, total: int, uri: str | None = None) -> Counter[str]:
    """Assert that a study has its total and its records agree; returns how many of its trials are in each state."""
    for kind, name, tag in (("trial", "a", "trial_number"), ("confirm", "a (confirm)", "confirm_number")):
        recorded = trials(folder, name)
        assert all(trial.state.is_finished() for trial in recorded)
        if kind == "trial":
            assert sum(trial.state.name in FINISHED for trial in recorded) == total
        complete = {trial.number: trial for trial in recorded if trial.state.name == "COMPLETE"}
        ended = {}
        for run in runs(folder, kind, uri):
            assert run.info.status != "RUNNING", run.info.run_name
            if run.info.status == "FINISHED":
                number = int(run.data.tags[tag])
                assert number not in ended, f"two runs of {name} {number}"
                ended[number] = run
        assert ended.keys() == complete.keys()
        for number, run in ended.items():
            assert math.isclose(run.data.metrics["best_dev_loss"], complete[number].value or 0)
            assert run.data.tags["weights_digest"] == complete[number].user_attrs["weights_digest"]
        for trial in recorded:
            if trial.state.name == "FAIL" and _is_others_fault(trial.user_attrs.get("reason")):
                again = [other for other in recorded if other.user_attrs.get("retry_of") == trial.number]
                assert len(again) == 1, f"{name} {trial.number} was not tried again"
    assert all(run.info.status != "RUNNING" for run in runs(folder, "study", uri))
    states = Counter(trial.state.name for trial in trials(folder))
    close_databases()
    return states


def _is_others_fault(reason: str | None) -> bool:
    return reason in (None, "interrupted", "given up as dead") or reason.startswith("not recorded: ")


def check_one_line(errors: str, *parts: str) -> str:
    """Assert that an error is said in one line, without a traceback; returns the line."""
    assert "Traceback" not in errors, errors
    lines = [line for line in errors.splitlines() if all(part in line for part in parts)]
    assert lines, errors
    return lines[-1]
