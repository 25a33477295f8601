"""Disks that fill, folders that may no longer be written, locked and damaged files: recovery, or one clear line."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from books import STUDY, check_books, check_one_line, trials, wait_for
from conftest import Makemore, own_environment, start, without_extras

from sweeps.databases import close_databases

pytestmark = pytest.mark.nightly

LEVELS = "task.level=1.0,2.0,3.0,4.0"
LOCKED_SECONDS = float(os.environ.get("MAKEMORE_LOCKED_SECONDS", "8"))  # up to the minute that a process waits
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []


def complete(folder: Path) -> int:
    return sum(trial.state.name == "COMPLETE" for trial in trials(folder))


def is_training(folder: Path) -> bool:
    return any(trial.state.name == "RUNNING" and trial.intermediate_values for trial in trials(folder))


def finish(folder: Path, *arguments: str) -> None:
    again = start(*arguments, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = again.communicate(timeout=90)
    assert again.returncode == 0, errors


def limit(size: int) -> Callable[[], None]:
    """No file of the process may become larger than `size` bytes, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_weights_that_find_no_room_fail_their_trials_in_one_line_and_the_next_command_finishes(tmp_path: Path) -> None:
    # Their weights take 5 MB; the databases take one.
    large = ("sweep", "study.name=a", "space=none", "model.hidden_neurons=20000", "train.steps=20", "study.workers=1",
             "train.evaluations=2", "optimizer.weight_decay=0.0,0.01,0.02,0.03", "study.confirm.top=0")  # fmt: skip
    process = start(
        *large, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit(3_000_000)
    )
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1, errors
    check_one_line(
        errors, "makemore: 2 trials in a row could not be recorded", "File too large", "the same command goes on"
    )
    assert [trial.state.name for trial in trials(tmp_path)[:2]] == ["FAIL"] * 2
    assert not [
        path for path in (tmp_path / "mlruns/artifacts").rglob("weights.safetensors") if path.stat().st_size == 0
    ]
    finish(tmp_path, *large)
    check_books(tmp_path, 4)


def test_databases_that_find_no_room_end_the_sweep_in_one_line_and_the_next_command_finishes(
    makemore: Makemore, workdir: Path
) -> None:
    assert makemore(*STUDY, "task=instant", "task.level=1.0,2.0", "study.name=before").code == 0
    close_databases()
    arguments = (*STUDY, LEVELS, "task.seconds=0.02", "study.workers=2")
    process = start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit(150_000))
    _, errors = process.communicate(timeout=90)
    assert process.returncode in (1, 2), errors
    check_one_line(errors, "makemore: ")
    finish(workdir, *arguments)
    check_books(workdir, 4)


def test_records_that_become_read_only_end_the_sweep_in_order(tmp_path: Path) -> None:
    if POWERLESS and shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv, and root may write everything")
    arguments = (*STUDY, LEVELS, "task.seconds=0.2", "study.workers=2")
    command = [*POWERLESS, sys.executable, "-m", "sweeps", *without_extras(arguments)]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=own_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: is_training(tmp_path), process)
    paths = [tmp_path / "mlruns", *(tmp_path / "mlruns").rglob("*")]
    modes = {path: path.stat().st_mode for path in paths if path.exists()}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        _, errors = process.communicate(timeout=90)
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)
    assert process.returncode in (1, 2), errors
    check_one_line(errors, "makemore: ")
    finish(tmp_path, *arguments)
    check_books(tmp_path, 4)


@pytest.mark.parametrize("name", ["study.db", "mlflow.db"])
def test_a_database_that_another_process_has_locked_is_waited_for(tmp_path: Path, name: str) -> None:
    arguments = (*STUDY, LEVELS, "task.seconds=0.2", "study.workers=2")
    process = start(*arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: is_training(tmp_path), process)
    with closing(sqlite3.connect(tmp_path / "mlruns" / name, timeout=30, isolation_level=None)) as other:
        other.execute("begin immediate")
        time.sleep(LOCKED_SECONDS)
        other.execute("rollback")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    check_books(tmp_path, 4)


COMMANDS = (
    ("sweep", "study.name=a", "space=none", "seed=1,2"),
    ("studies",),
    ("compare", "study.name=a"),
    ("sample", "study.name=a"),
    ("stop", "study.name=a"),
    ("looks",),
    ("final-test", "study.name=a", "final_test.confirm=true"),
)
TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=4,8", "pruner=none", "study.n_trials=2")


@pytest.fixture
def study(makemore: Makemore, workdir: Path) -> Path:
    assert makemore("sweep", "study.name=a", "study.workers=1", "study.confirm.top=0", *TINY).code == 0
    close_databases()
    return workdir


@pytest.mark.parametrize("size", [0, 100, 5000, 0.5])
@pytest.mark.parametrize("name", ["study.db", "mlflow.db"])
def test_a_database_that_was_cut_is_one_line(makemore: Makemore, study: Path, name: str, size: float) -> None:
    file = study / "mlruns" / name
    whole = file.read_bytes()
    for command in COMMANDS:
        file.write_bytes(whole[: int(size if size >= 1 else size * len(whole))])
        for log in file.parent.glob(f"{name}-*"):
            log.unlink()
        answer = makemore(*command)
        close_databases()
        assert answer.code in (0, 1, 2), command
        if answer.code:
            lines = [line for line in answer.err.splitlines() if line.startswith("makemore: ")]
            assert len(lines) == 1, (command, answer.err)
        assert "Traceback" not in answer.err


@pytest.mark.parametrize("size", [0, 4, 100, 0.5])
def test_weights_that_were_cut_are_one_line_and_the_look_is_not_spent(
    makemore: Makemore, study: Path, size: float
) -> None:
    for file in (study / "mlruns/artifacts").rglob("weights.safetensors"):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(size if size >= 1 else size * len(whole))])
    for command in (("sample", "study.name=a"), ("final-test", "study.name=a", "final_test.confirm=true")):
        answer = makemore(*command)
        assert answer.code in (1, 2), command
        assert answer.err.count("\n") == 1, answer.err
        assert "weights" in answer.err
    assert makemore("looks").out == "no test split has been looked at\n"


def test_a_terminal_that_is_gone_ends_a_sweep_in_order(tmp_path: Path) -> None:
    """SIGHUP, as a lost connection sends it."""
    arguments = (*STUDY, LEVELS, "task.seconds=0.2", "study.workers=2")
    process = start(*arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: is_training(tmp_path), process)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    finish(tmp_path, *arguments)
    check_books(tmp_path, 4)
