"""hooks.on_end: called once when a study ends, by whichever process ends last."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Makemore, start
from fake_tasks import FAKE

from sweeps.cli import run
from sweeps.databases import close_databases

STUDY = ("sweep", *FAKE, "study.name=a", "study.workers=1", "study.confirm.top=1", "study.confirm.seeds=2")
INSTANT = (*STUDY, "task=instant", "task.level=1.0,2.0")
NAMES = ("STUDY", "STATE", "TRIALS", "WINNER", "DEV_LOSS", "CONFIRMED_DEV_LOSS", "RUN_ID")
WRITE = f"""\
import os
print(*(os.environ["MAKEMORE_" + name] for name in {NAMES!r}), sep="|", file=open("told", "a"))
"""


@pytest.fixture
def hook(workdir: Path) -> str:
    """A command that adds a line to a file `told`."""
    (workdir / "hook.py").write_text(WRITE)
    return f"hooks.on_end=[{sys.executable},hook.py]"


def told(folder: Path) -> list[list[str]]:
    file = folder / "told"
    return [line.split("|") for line in file.read_text().splitlines()] if file.exists() else []


def test_a_command_is_told_once_how_a_study_ended(makemore: Makemore, workdir: Path, hook: str) -> None:
    answer = makemore(*INSTANT, hook)
    assert (answer.code, answer.err.count("hooks")) == (0, 0)
    [[study, state, trials, winner, dev_loss, confirmed, run_id]] = told(workdir)
    assert (study, state, trials) == ("a", "finished", "2")
    best = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db").best_trial
    assert (int(winner), float(dev_loss), run_id) == (best.number, best.value, best.user_attrs["run_id"])
    assert float(confirmed) == pytest.approx(float(dev_loss))
    assert makemore(*INSTANT, hook).code == 0  # nothing is left to do: the study does not end again
    assert len(told(workdir)) == 1
    config = next((workdir / "mlruns/artifacts").rglob("config.yaml"))
    assert "hook" not in config.read_text()


def test_a_study_that_fails_is_told_too(makemore: Makemore, workdir: Path, hook: str) -> None:
    assert makemore(*STUDY, "task=fails", "task.at=null", "task.level=1.0,2.0", hook).code == 1
    assert [line[:4] for line in told(workdir)] == [["a", "failed", "0", ""]]


@pytest.mark.slow
def test_a_study_that_was_stopped_is_told_and_one_that_was_interrupted_is_not(
    makemore: Makemore, workdir: Path, hook: str
) -> None:
    slow = (*STUDY, "task=slow", "task.seconds=0.1", "task.level=1.0,2.0,3.0", hook)
    assert makemore(*STUDY, "task=interrupted", "task.at=0", "task.level=1.0,2.0", hook, "study.name=b").code == 130
    process = start(*slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while json.loads(makemore("studies", "format=json").out)[0]["running"] == 0:
        assert time.monotonic() < deadline
        close_databases()
    assert makemore("stop", "study.name=a").code == 0
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [line[:2] for line in told(workdir)] == [["a", "stopped"]]


def sweep_quietly(arguments: tuple[str, ...], errors: Path) -> None:
    with errors.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        code = run(list(arguments))
    os._exit(code)


@pytest.mark.slow
def test_of_eight_processes_one_calls(makemore: Makemore, workdir: Path, hook: str) -> None:
    levels = "task.level=" + ",".join(str(float(level)) for level in range(1, 25))
    arguments = (*STUDY, "task=slow", "task.seconds=0.02", levels, "study.n_trials=24", hook, "study.pictures=false",
                 "study.register=false")  # fmt: skip
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=sweep_quietly, args=(arguments, workdir / f"errors-{number}")) for number in range(8)
    ]
    close_databases()
    for process in processes:
        process.start()
    for number, process in enumerate(processes):
        process.join(120)
        assert process.exitcode == 0, (workdir / f"errors-{number}").read_text()
    assert [line[:3] for line in told(workdir)] == [["a", "finished", "24"]]


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """The address of a webhook that takes /good and refuses all else, and what it was sent."""
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(204 if self.path == "/good" else 403)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_gets_json(makemore: Makemore, workdir: Path, webhook: tuple[str, list[Any]]) -> None:
    address, taken = webhook
    assert makemore(*INSTANT, f"hooks.on_end={address}/good").code == 0
    [(path, kind, end)] = taken
    assert (path, kind) == ("/good", "application/json")
    assert (end["study"], end["state"], end["trials"]) == ("a", "finished", 2)
    assert end["confirmed_dev_loss"] == pytest.approx(end["dev_loss"])
    answer = makemore(*INSTANT, "study.name=b", f"hooks.on_end={address}/secret")
    assert answer.code == 0
    assert answer.err.splitlines()[-1].startswith("makemore: hooks.on_end failed: 127.0.0.1 did not take the message: ")
    assert "secret" not in answer.err
    assert "winner: trial" in answer.out


def test_a_hook_that_fails_is_one_line_and_fails_nothing(makemore: Makemore, workdir: Path) -> None:
    (workdir / "bad.py").write_text("print('first'); raise SystemExit('no printer')")
    answer = makemore(*INSTANT, f'hooks.on_end="{sys.executable} bad.py"')
    assert answer.code == 0
    line = answer.err.splitlines()[-1]
    assert line == f"makemore: hooks.on_end failed: {sys.executable} ended with exit code 1 (no printer)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_command", "there is no command no_such_command here"),
        ("[]", "hooks.on_end is []; it must be null, a command, or a webhook"),
        ('"ls \'"', "No closing quotation"),
        ("https://", "this URL has no host"),
        ("{a: 1}", "hooks.on_end is {'a': 1}; it must be"),
        ("3", "hooks.on_end is 3; it must be text or a list or null"),
    ],
)
def test_a_hook_that_cannot_be_called_is_refused(makemore: Makemore, workdir: Path, value: str, message: str) -> None:
    answer = makemore(*INSTANT, f"hooks.on_end={value}")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert message in answer.err
    assert not (workdir / "mlruns/study.db").exists()
