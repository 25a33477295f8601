"""Processes that stand still, die or start together, and a server that goes away: in the end the books are right."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from books import FINISHED, STUDY, check_books, check_one_line, trials, wait_for
from conftest import start

pytestmark = pytest.mark.nightly

GRACE_SECONDS = 15


def levels(number: int) -> str:
    return "task.level=" + ",".join(f"{level}.0" for level in range(1, number + 1))


def running(folder: Path) -> list[int]:
    """The processes of the workers that are at a trial which has reported."""
    found = [trial for trial in trials(folder) if trial.state.name == "RUNNING" and trial.intermediate_values]
    return [int(trial.user_attrs["worker"].split("-")[-2]) for trial in found]


def test_a_worker_that_stands_still_for_longer_than_the_grace_period_is_given_up_and_ends_well(tmp_path: Path) -> None:
    arguments = (*STUDY, levels(6), "task.seconds=0.3", "study.workers=2")
    process = start(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: len(running(tmp_path)) == 2, process)
    victim = running(tmp_path)[0]
    os.kill(victim, signal.SIGSTOP)
    # The other worker marks its trial as failed, and tries the setting again.
    wait_for(lambda: any(trial.state.name == "FAIL" for trial in trials(tmp_path)), process, GRACE_SECONDS + 30)
    os.kill(victim, signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    check_one_line(errors, "was given up as dead")
    states = check_books(tmp_path, 6)
    assert states == {"COMPLETE": 6, "FAIL": 1}


def test_after_the_death_of_the_parent_its_workers_end_and_the_next_command_finishes(tmp_path: Path) -> None:
    arguments = (*STUDY, levels(6), "task.seconds=0.1", "study.workers=2")
    process = start(*arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(running(tmp_path)) == 2, process)
    done = sum(trial.state.name in FINISHED for trial in trials(tmp_path))
    process.kill()
    process.wait()
    again = start(*arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    states = check_books(tmp_path, 6)
    assert done <= states["COMPLETE"] == 6


def test_a_study_goes_on_with_an_mlflow_server_that_was_away_for_ten_seconds(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(tmp_path, port)
    try:
        uri = f"http://127.0.0.1:{port}"
        arguments = (*STUDY, levels(4), "task.seconds=0.3", "study.workers=2", f"tracking.uri={uri}")
        process = start(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda: len(running(tmp_path)) == 2, process)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        time.sleep(10)
        server = serve(tmp_path, port)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        check_books(tmp_path, 4, uri)
        curves = [trial.intermediate_values for trial in trials(tmp_path) if trial.state.name == "COMPLETE"]
        assert [len(curve) for curve in curves] == [10] * 4
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def serve(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """An MLflow server on a port, which answers."""
    (folder / "server").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        cwd=folder / "server",
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return process
        except OSError:
            assert time.monotonic() < deadline, "the server did not start within a minute"
            time.sleep(0.2)


def test_two_sweeps_of_one_name_that_start_together_in_an_empty_folder_share_the_work(tmp_path: Path) -> None:
    arguments = (*STUDY, levels(6), "task.seconds=0.1", "study.workers=1")
    processes = [start(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    assert check_books(tmp_path, 6) == {"COMPLETE": 6}
