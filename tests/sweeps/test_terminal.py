"""What people read in a terminal: tables that fit it, progress, and commands that can be pasted."""

import os
import pty
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Answer, Makemore, own_environment, start
from fake_tasks import FAKE
from wcwidth import wcswidth

from sweeps.config.command_line import command_line
from sweeps.reports.tables import to_text
from sweeps.study.progress import News, ProgressLine

FAKE_STUDY = ("sweep", *FAKE, "study.name=a", "study.workers=1", "study.confirm.top=0")
TINY = ("train.steps=20", "train.evaluations=2", "train.batch_size=8")


def check_width(answer: Answer, width: int) -> None:
    assert answer.code == 0, answer.err
    wide = [line for line in answer.out.splitlines() if wcswidth(line) > width]
    assert [line for line in wide if "study.name=" not in line] == []  # but commands, which are to be pasted


def test_every_table_fits_the_terminal(makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a-study-with-a-long-name"
    study = ("sweep", f"study.name={name}", "study.n_trials=3", "study.workers=1", *TINY)
    confirm = ("study.confirm.top=1", "study.confirm.seeds=2")
    monkeypatch.setenv("COLUMNS", "80")
    check_width(makemore(*study, *confirm), 80)
    full = makemore("compare", "format=csv").out
    for arguments in ([], ["by=setting"], ["baseline=0"], [f"studies=[{name}]"]):
        for width in (80, 100, 132):
            monkeypatch.setenv("COLUMNS", str(width))
            answer = makemore("compare", *arguments)
            check_width(answer, width)
            words = " ".join(answer.out.split())
            assert "(not shown at this width: " in words
            assert "; format=csv has all)" in words
    monkeypatch.setenv("COLUMNS", "80")
    [left_out] = re.findall(r"not shown at this width: ([^;]*);", " ".join(makemore("compare").out.split()))
    header = makemore("compare").out.splitlines()[1].split()
    assert header[:4] == ["trial", "state", "dev_loss", "confirmed"]
    assert {"seconds", "parameters"} <= set(left_out.split(", "))
    assert makemore("compare", "format=csv").out == full
    monkeypatch.setenv("COLUMNS", "1000")
    assert "not shown" not in makemore("compare").out


def test_a_shortened_id_is_enough_to_name_the_run(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert makemore(*FAKE_STUDY, "task=instant", "task.level=1.0,2.0").code == 0
    monkeypatch.setenv("COLUMNS", "60")
    _, header, first, *_ = makemore("compare").out.splitlines()
    run = first.split()[header.split().index("run")]
    assert len(run) == 8
    assert makemore("compare", f"runs=['{run}']", "format=json").out.count(f'"run_id":"{run}') == 1


def test_letters_of_two_columns_stand_in_line() -> None:
    table = pd.DataFrame({"study": ["名前", "é", "e\u0301"], "trial": [1, 22, 333]})
    assert {wcswidth(line) for line in to_text(table).splitlines()} == {12}


def test_a_text_of_many_lines_is_cut_and_stays_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = pd.DataFrame({"trial": [1], "reason": ["no\nroom " * 100], "run_id": ["0123456789abcdef"]})
    lines = to_text(table).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[:2] == ["1", "no"]
    assert "01234567" in lines[1]


def test_a_table_that_fits_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table = pd.DataFrame({"trial": [1], "run_id": ["0123456789abcdef"], "model.block_size": [3]})
    assert to_text(table).splitlines() == [
        "trial            run_id  model.block_size",
        "    1  0123456789abcdef                 3",
    ]


def test_an_interrupted_trial_is_not_called_failed(makemore: Makemore, workdir: Path) -> None:
    study = (*FAKE_STUDY, "task=interrupted", "task.at=1", "task.level=1.0,2.0,3.0")
    answer = makemore(*study)
    assert answer.code == 130
    assert "1 interrupted" in answer.out
    assert "fail" not in (answer.out + answer.err).lower()
    states = [line.split()[1] for line in makemore("compare").out.splitlines()[2:]]
    assert states == ["COMPLETE", "INTERRUPTED"]


def test_a_trial_that_failed_is_called_failed(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*FAKE_STUDY, "task=fails", "task.at=1", "task.level=1.0,2.0,3.0")
    assert answer.code == 0
    assert "2 complete, 1 failed" in answer.out
    assert "trial 1 failed: OSError: the disk is full" in answer.err


def next_commands(out: str) -> list[str]:
    lines = out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("next:   "))
    return [line[8:] for line in lines[at:]]


def test_the_commands_after_a_sweep_can_be_pasted(workdir: Path) -> None:
    places = ("study.storage=sqlite:///my studies/study.db", "tracking.uri=sqlite:///my studies/runs.db")
    (workdir / "my studies").mkdir()
    program = [sys.executable, "-m", "sweeps"]
    small = (
        "study.n_trials=1",
        "study.name=a",
        "study.confirm.top=0",
        "study.workers=1",
        "study.pictures=false",
        *TINY,
    )
    quiet = {"cwd": workdir, "env": own_environment(), "capture_output": True, "text": True, "timeout": 120}
    swept: Any = subprocess.run([*program, "sweep", *small, *places], check=True, **quiet)  # type: ignore[call-overload]
    commands = next_commands(swept.stdout)
    for command in commands:
        assert shlex.split(command)[-2:] == list(places)
    compared = next(command for command in commands if " compare " in command)
    told: Any = subprocess.run(["sh", "-c", compared], check=True, **quiet)  # type: ignore[call-overload]
    assert told.stdout.startswith("study a")


def test_the_program_is_named_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, other = tmp_path / ".venv/bin/makemore", tmp_path / "other/makemore"
    for path in (script, other):
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    for called, path, expected in (
        (script, script.parent, "makemore"),
        (Path(".venv/bin/makemore"), Path("/usr/bin"), ".venv/bin/makemore"),
        (script, other.parent, ".venv/bin/makemore"),  # the shell would find another one
        (other, script.parent, "other/makemore"),
    ):
        monkeypatch.setattr(sys, "argv", [str(called)])
        monkeypatch.setenv("PATH", str(path))
        assert command_line("compare", "study.name=a b") == f"{expected} compare 'study.name=a b'"


def test_a_task_that_draws_no_samples_is_not_asked_for_any(makemore: Makemore, workdir: Path) -> None:
    answer = makemore(*FAKE_STUDY, "task=instant", "task.level=1.0,2.0")
    assert not [command for command in next_commands(answer.out) if " sample " in command]


def progress(capsys: pytest.CaptureFixture[str], *news: News) -> list[str]:
    line = ProgressLine("a")
    for one in news:
        line.show(one)
    line.close()
    return capsys.readouterr().err.splitlines()


def test_a_log_gets_whole_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    news = [News("w", trial=number, standing=(number, 40), best=(0, 2.5)) for number in range(40)]
    lines = progress(capsys, *news, News("w", standing=(40, 40), best=(3, 2.25)))
    assert lines == [
        "a: 0 of 40 trials, best dev loss 2.5000 (trial 0)",
        "a: 40 of 40 trials, best dev loss 2.2500 (trial 3)",
    ]


def test_a_study_that_goes_on_begins_with_the_trials_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress(capsys, News("w", trial=30, standing=(30, 40)))[0] == "a: 30 of 40 trials"


def in_a_terminal(folder: Path, columns: int, *arguments: str) -> str:
    """What a command writes to a terminal so wide."""
    reader, writer = pty.openpty()
    environment = {key: value for key, value in own_environment().items() if key not in ("COLUMNS", "LINES")}
    subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=writer, check=True)
    process = start(*arguments, cwd=folder, env=environment, stdin=writer, stdout=writer, stderr=writer)
    os.close(writer)
    told, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            told += os.read(reader, 65536)
        except OSError:  # the other end is closed
            break
    os.close(reader)
    assert process.wait(timeout=30) == 0
    return told.decode()


@pytest.mark.parametrize("columns", [40, pytest.param(80, marks=pytest.mark.slow)])
def test_the_progress_of_a_study_is_one_line_of_its_terminal(workdir: Path, columns: int) -> None:
    study = (*FAKE_STUDY, "study.workers=2", "task=slow", "task.seconds=0.01", "task.level=1.0,2.0,3.0,4.0")
    in_a_terminal(workdir, columns, *study, "study.n_trials=2")
    told = in_a_terminal(workdir, columns, *study, "study.n_trials=4")
    drawn = [line for line in re.split(r"[\r\n]+|\x1b\[A", told) if "/4 [" in line]
    assert drawn
    assert max(len(line.rstrip()) for line in drawn) <= columns
    assert drawn[0].startswith("a:  50%")
    rates = [float(rate) for line in drawn for rate in re.findall(r"([\d.]+) trial/s", line)]
    assert all(rate < 1000 for rate in rates)
