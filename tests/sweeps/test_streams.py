"""Commands whose output nobody reads, or no disk takes: the work is done all the same."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from conftest import Makemore, own_environment
from fake_tasks import FAKE

from sweeps.databases import close_databases
from sweeps.tracking.store import MlflowClient

SWEEP = f"sweep {' '.join(FAKE)} task=instant task.level=1.0,2.0,3.0 study.name=a study.confirm.top=0 study.workers=1"
QUICK = "study.pictures=false study.register=false"
FULL = "makemore: standard output could not be written: [Errno 28] No space left on device"

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """What comes of a shell's line, in which MAKEMORE is the command."""
    line = line.replace("MAKEMORE", f"{sys.executable} -m sweeps")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=own_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        ("<&-", 0),
        ("<&- >&- 2>&-", 0),
        ("| head -1", 0),
        ("| true", 0),
        ("2>&1 | true", 0),
        (">/dev/full", 1),
        (">/dev/full 2>&-", 1),
        ("2>/dev/full", 0),
        (">/dev/full 2>/dev/full", 1),
    ],
)
def test_a_study_is_finished_and_recorded_though_nobody_reads_its_output(
    workdir: Path, streams: str, code: int
) -> None:
    done = shell(workdir, f"MAKEMORE {SWEEP} study.n_trials=3 {QUICK} {streams}")
    assert done.returncode == code, done.stderr
    assert "Error" not in done.stderr.replace("[Errno 28]", "")
    assert done.stderr.count(FULL) == (streams == ">/dev/full")
    trials = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    runs = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db").search_runs(["1"])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4


@pytest.mark.parametrize(
    ("line", "code", "errors"),
    [
        ("--help >/dev/full", 1, FULL),
        ("--help | true", 0, ""),
        ("--help >&-", 0, ""),
        ("2>&-", 2, ""),
        ("tarin 2>/dev/full", 2, ""),
        ("train --help >/dev/full", 1, FULL),
    ],
)
def test_what_only_prints_says_that_it_could_not(tmp_path: Path, line: str, code: int, errors: str) -> None:
    done = shell(tmp_path, f"MAKEMORE {line}")
    assert (done.returncode, done.stderr.strip()) == (code, errors)


def test_commands_that_read_are_quiet_where_nobody_reads_them(makemore: Makemore, workdir: Path) -> None:
    assert makemore(*SWEEP.split(), "study.n_trials=2").code == 0
    close_databases()
    for line, code, errors in (
        ("compare | true", 0, ""),
        ("compare >&-", 0, ""),
        ("looks 2>&- >&- <&-", 0, ""),
        ("compare format=csv >/dev/full", 1, FULL),
    ):
        done = shell(workdir, f"MAKEMORE {line}")
        assert (done.returncode, done.stderr.strip()) == (code, errors), line
