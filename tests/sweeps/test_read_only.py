"""Records that may only be read: what reads them works, what must write says so."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Makemore, fetch, own_environment

from sweeps.databases import close_databases

TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=4,8", "pruner=none")
SWEEP = ("sweep", "study.name=a", "study.workers=1", "study.n_trials=2", "study.confirm.top=0", *TINY)
# Root may write everything, unless it gives up the right to.
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []


@pytest.fixture
def sealed(makemore: Makemore, workdir: Path) -> Iterator[Path]:
    """A project with a study, none of whose files and folders may be written."""
    assert makemore(*SWEEP).code == 0
    close_databases()
    paths = [workdir, *workdir.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    probe = [*POWERLESS, sys.executable, "-c", "import os, sys; sys.exit(os.access('mlruns', os.W_OK))"]
    try:
        if POWERLESS and shutil.which("setpriv") is None:
            pytest.skip("there is no setpriv, and root may write everything")
        if subprocess.run(probe, cwd=workdir, check=False).returncode:
            pytest.skip("this user may write everything")
        yield workdir
    finally:
        for path in paths:
            path.chmod(modes[path])


def powerless(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*POWERLESS, sys.executable, "-m", "sweeps", *arguments],
        cwd=folder,
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_what_may_only_be_read_is_read(sealed: Path) -> None:
    for command, shown in (
        (("compare", "baseline=0", "format=csv"), "difference_low"),
        (("sample", "n=2"), "are not among the training words"),
        (("looks",), "no test split has been looked at"),
    ):
        done = powerless(sealed, *command)
        assert (done.returncode, done.stderr) == (0, "")
        assert shown in done.stdout


@pytest.mark.slow
def test_a_moved_project_is_read_without_mending_it(sealed: Path) -> None:
    mode = sealed.stat().st_mode
    moved = sealed.rename(sealed.with_name("moved"))
    try:
        done = powerless(moved, "sample", "n=2")
        assert done.returncode == 0, done.stderr
        assert not sealed.exists()
    finally:
        moved.rename(sealed)
    assert sealed.stat().st_mode == mode


@pytest.mark.slow
def test_what_must_write_says_that_it_cannot(sealed: Path) -> None:
    before = sorted(sealed.rglob("*"))
    for command in (("train", *TINY[:2]), SWEEP, ("final-test", "study.name=a"), ("lr-find",)):
        done = powerless(sealed, *command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "cannot be written; name another file" in done.stderr
    assert sorted(sealed.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(("command", "place"), [("ui", "/health"), ("dashboard", "/api/studies")])
def test_pages_are_served_from_a_copy_which_is_said(sealed: Path, command: str, place: str) -> None:
    line = [*POWERLESS, sys.executable, "-m", "sweeps", command]
    process = subprocess.Popen(line, cwd=sealed, env=own_environment(), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "these records may only be read, so changes are not kept" in said
        answer = fetch(said.split(" is at ")[1].split()[0] + place)
        assert answer == "OK" if place == "/health" else json.loads(answer)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
