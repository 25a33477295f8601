"""A signal at any moment of a first command: the command ends, says so, and the next one works."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import start
from fake_tasks import FAKE

MOMENTS = int(os.environ.get("MAKEMORE_SIGNAL_MOMENTS", "6"))
LAST_SECONDS = float(os.environ.get("MAKEMORE_SIGNAL_SECONDS", "4"))
FIRST_SECONDS = 0.5  # until the interpreter runs the first line of the command, also on a busy machine
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
SWEEP = (
    "sweep",
    *FAKE,
    "task=slow",
    "task.seconds=0.02",
    "task.level=1.0,2.0",
    "study.name=a",
    "study.n_trials=2",
    "study.confirm.top=0",
)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_after_a_signal_at_any_moment_the_next_command_works(tmp_path: Path, moment: int) -> None:
    number = SIGNALS[moment % len(SIGNALS)]
    workers = f"study.workers={1 + moment // len(SIGNALS) % 2}"
    after = FIRST_SECONDS + moment * (LAST_SECONDS - FIRST_SECONDS) / MOMENTS
    process = start(*SWEEP, workers, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    # The interpreter itself ends in its own way while it starts and imports the command's first module.
    started = process.returncode != -number or (tmp_path / "mlruns").exists()
    if started and number != signal.SIGKILL:
        assert "Traceback" not in errors
        assert process.returncode in (130, 0), errors
        assert (process.returncode == 130) == ("makemore: interrupted" in errors), errors
        assert process.returncode == 130 or trials(tmp_path).count("COMPLETE") == 2, "the signal was lost"
    again = start(*SWEEP, workers, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert trials(tmp_path).count("COMPLETE") == 2
    with closing(sqlite3.connect(tmp_path / "mlruns/mlflow.db")) as database:
        assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
    shutil.rmtree(tmp_path)


def trials(folder: Path) -> list[str]:
    """The states of the search's trials."""
    select = "select t.state from trials t join studies s using (study_id) where s.study_name = 'a'"
    with closing(sqlite3.connect(folder / "mlruns/study.db")) as database:
        return [state for (state,) in database.execute(select)]
