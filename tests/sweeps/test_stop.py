"""`makemore stop` ends the workers of a study wherever they run, and `makemore studies` shows them."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore, call, start
from fake_tasks import FAKE

from sweeps.databases import close_databases
from sweeps.tracking.store import MlflowClient

SLOW = ("task=slow", "task.seconds=0.1", "study.name=a", "study.confirm.top=0")
WAITING = (*FAKE, "task=waits", "task.then_diverges=false", "task.level=1.0,2.0", "study.workers=1", *SLOW[2:])
MANY = "task.level=" + ",".join(str(float(level)) for level in range(1, 31))


def sweep(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return start("sweep", *FAKE, *SLOW, *arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in optuna.load_study(study_name="a", storage=storage(folder)).trials]


def storage(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/study.db"


def workers(makemore: Makemore) -> list[dict[str, Any]]:
    answer = makemore("studies", "format=json", "study.name=a")
    found = json.loads(answer.out)[0]["workers"] if answer.code == 0 else []
    close_databases()
    return list(found)


def wait_for_workers(makemore: Makemore, number: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = workers(makemore)
        if len(found) >= number:
            return found
        time.sleep(0.1)
    raise AssertionError(f"there were no {number} workers within a minute")


@pytest.mark.slow
def test_all_workers_of_a_study_end_and_it_goes_on_later(makemore: Makemore, workdir: Path) -> None:
    processes = [sweep(workdir, MANY, "study.workers=1")]
    wait_for_workers(makemore, 1)
    processes.append(sweep(workdir, MANY, "study.workers=2"))
    listed = wait_for_workers(makemore, 3)
    assert {row["host"] for row in listed} == {socket.gethostname()}
    assert len({row["worker"] for row in listed}) == 3
    assert all(row["phase"] == "search" and 0 <= row["beat_seconds_ago"] < 15 for row in listed)
    table = makemore("studies").out
    assert "workers at a trial:" in table
    assert table.count("s ago") >= 1
    stopped = makemore("stop", "study.name=a")
    assert (stopped.code, stopped.err) == (0, "")
    assert "stopped; makemore sweep study.name=a goes on" in stopped.out
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert "makemore: study a was stopped by" in errors
        assert "the same command goes on" in errors
        assert "Traceback" not in errors
    trials = optuna.load_study(study_name="a", storage=storage(workdir)).trials
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert failed
    assert all(trial.user_attrs["reason"] == "interrupted" for trial in failed)
    assert not [trial for trial in trials if trial.state.name == "RUNNING"]
    client = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db")
    assert not client.search_runs(["1"], "attributes.status = 'RUNNING'")
    assert workers(makemore) == []
    close_databases()
    call(workdir, "sweep", *FAKE, *SLOW, MANY, "study.workers=2", "study.n_trials=30", "task.seconds=0.1")
    assert states(workdir).count("COMPLETE") == 30
    assert not client.search_runs(["1"], "attributes.status = 'RUNNING'")


@pytest.mark.slow
def test_a_confirmation_is_stopped_too(makemore: Makemore, workdir: Path) -> None:
    confirm = ("study.confirm.top=1", "study.confirm.seeds=3", "task.level=1.0,2.0", "study.workers=1")
    process = sweep(workdir, *confirm, "task.seconds=0.3")
    while wait_for_workers(makemore, 1)[0]["phase"] != "confirm":
        assert process.poll() is None
    assert makemore("stop", "study.name=a").code == 0
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "was stopped by" in errors
    assert "at 2 of 2 trials" in errors


@pytest.mark.slow
def test_a_worker_that_does_not_report_is_named_when_the_time_is_over(makemore: Makemore, workdir: Path) -> None:
    process = start("sweep", *WAITING, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    [worker] = wait_for_workers(makemore, 1)
    answer = makemore("stop", "study.name=a", "wait=0.5")
    assert answer.code == 1
    assert f"still at work: {worker['worker']} on {worker['host']}: trial 0, last beat" in answer.err
    (workdir / "go").touch()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert states(workdir) == ["COMPLETE"]  # it trained to its end; the other setting was not started


def test_where_nobody_works_that_is_said(makemore: Makemore, workdir: Path) -> None:
    instant = ("sweep", *FAKE, "task=instant", "study.name=a", "study.workers=1", "study.confirm.top=0")
    assert makemore(*instant, "task.level=1.0,2.0").code == 0
    answer = makemore("stop", "study.name=a")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "study a: no worker is at a trial; those that are about to start one will end instead\n"
    again = makemore(*instant, "task.level=1.0,2.0")  # a request that came before it does not stop it
    assert again.code == 0
    assert "stopped" not in again.err


@pytest.mark.nightly
def test_a_worker_that_was_killed_is_not_waited_for_longer_than_it_may_be_silent(
    makemore: Makemore, workdir: Path
) -> None:
    process = sweep(workdir, "study.workers=1", "task.level=1.0,2.0", "task.seconds=60")
    [worker] = wait_for_workers(makemore, 1)
    process.kill()
    process.wait()
    assert worker["worker"].split("-")[-2] == str(process.pid)
    started = time.monotonic()
    answer = makemore("stop", "study.name=a")
    assert answer.code == 0, answer.err
    assert time.monotonic() - started < 25
    assert workers(makemore)[0]["beat_seconds_ago"] > 15  # it is shown until the next sweep finds it dead


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "study.name is null; it must name the study to stop: makemore studies lists all"),
        (("study.name=b",), "study.name is b; sqlite:///mlruns/study.db has no such study: see makemore studies"),
        (("study.name=a b",), "study.name is 'a b'; it must be 1 to 100 of a-z, A-Z, 0-9, '.', '_' and '-'"),
        (("study.name=b", "wait=-1"), "wait is -1.0; it must be >= 0 and <= 86400"),
        (("study.name=b", "wait=long"), "wait is 'long'; it must be a number"),
    ],
)
def test_a_wrong_request_to_stop_is_one_line(
    makemore: Makemore, workdir: Path, arguments: tuple[str, ...], message: str
) -> None:
    answer = makemore("stop", *arguments)
    assert (answer.code, answer.out, answer.err) == (2, "", f"makemore: {message}\n")
    assert not (workdir / "mlruns" / "study.db").exists()


@pytest.mark.slow
def test_ctrl_c_while_waiting_takes_nothing_back(makemore: Makemore, workdir: Path) -> None:
    process = start("sweep", *WAITING, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_workers(makemore, 1)
    stop = start("stop", "study.name=a", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while "stop" not in optuna.load_study(study_name="a", storage=storage(workdir)).user_attrs:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(stop.pid, signal.SIGINT)
    _, errors = stop.communicate(timeout=30)
    assert (stop.returncode, errors) == (130, "makemore: interrupted\n")
    (workdir / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 130
