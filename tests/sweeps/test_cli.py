"""Commands as a user types them: what they print, their exit codes and what they leave behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Makemore

TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8", "train.batch_size=8")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_prints_its_dev_loss_and_leaves_nothing_but_records(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", *TINY)
    assert answer.code == 0
    assert answer.out.startswith("dev loss ")
    assert {path.name for path in workdir.iterdir()} == {"mlruns"}
    assert {path.name for path in (workdir / "mlruns").iterdir()} == {"mlflow.db", "artifacts"}


def test_cfg_job_prints_one_readable_page(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", "--cfg", "job")
    assert answer.code == 0
    assert "block_size: 3" in answer.out
    assert len(answer.out.splitlines()) < 70


@pytest.mark.parametrize("command", ["train", "sweep", "compare", "sample", "lr-find", "ui"])
def test_every_command_explains_itself(makemore: Makemore, workdir: Path, command: str) -> None:
    answer = makemore(command, "--help")
    assert answer.code == 0
    assert "tracking:" in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "model.block_size=0"], "model.block_size is 0; it must be >= 1"),
        (["train", "model.blok_size=3"], "Could not override 'model.blok_size'"),
        (["train", "schedule=cosin"], "Could not find 'schedule/cosin'"),
        (["train", "model.block_size=("], "model.block_size="),
        (["train", "data=file", "data.path=absent.txt"], "absent.txt cannot be read"),
        (["train", "data=file"], "data.path is not given"),
        (["train", "tracking.uri=http://127.0.0.1:9"], "127.0.0.1:9 does not answer"),
        (["train", "tracking.uri=nonsense"], "tracking.uri is nonsense; it must be a URL"),
        (["sweep", "tracking.uri=http://127.0.0.1:9"], "127.0.0.1:9 does not answer"),
        (["sweep", "study.storage=postgresql+psycopg://u@127.0.0.1:9/db"], "127.0.0.1:9 does not answer"),
        (["sweep", "study.n_trials=0"], "study.n_trials is 0; it must be >= 1"),
        (["sweep", "study.n_trials=many"], "study.n_trials is 'many'; it must be an integer"),
        (["sweep", "study.timeout=0"], "study.timeout is 0; it must be > 0"),
        (["sweep", "study.timeout=soon"], "study.timeout is 'soon'; it must be a number of seconds, or null"),
        (["sweep", "pruner.reduction_factor=0"], "pruner.reduction_factor is 0; it must be an integer >= 2"),
        (["sweep", "pruner=median", "pruner.n_startup_trials=-1"], "pruner cannot be made"),
        (["sweep", "study.name='a b'"], "study.name is 'a b'; it must be 1 to 100 letters"),
        (["sweep", "space=none"], "nothing to search"),
        (["sweep", "model.block_size=range(0,3)"], "model.block_size is 0; it must be >= 1"),
        (["sweep", "model.blok_size=2,3"], "Could not override 'model.blok_size'"),
        (["sweep", "schedule=step,cosin"], "Could not find 'schedule/cosin'"),
        (["sweep", "sampler=grid"], "sampler=grid needs choice(...) or range(...)"),
        (["sweep", "model.block_size=glob(*)"], "cannot be searched"),
        (["compare"], "there is no study"),
        (["compare", "study.name=absent"], "study.name is absent"),
        (["compare", "format=xml"], "format is xml; it must be table, csv, json or markdown"),
        (["sample"], "there is no study"),
        (["sample", "run=absent"], "run is absent"),
        (["sample", "n=0.5"], "n is 0.5; it must be an integer"),
        (["ui", "port=0"], "port is 0; it must be an integer from 1 to 65535"),
        (["lr-find", "lr_find.low=0"], "lr_find.low is 0.0; it must be > 0"),
        (["lr-find", "lr_find.steps=5"], "lr_find.steps is 5; it must be >= 50"),
        (["lr-find", "lr_find.picture=absent/lr.png"], "lr_find.picture is absent/lr.png; its folder must exist"),
        (["tarin"], "there is no command tarin"),
    ],
)
def test_a_wrong_request_gets_one_line_and_leaves_nothing(
    makemore: Makemore, workdir: Path, arguments: list[str], message: str
) -> None:
    before = files_in(workdir)
    answer = makemore(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith("makemore: ")
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert files_in(workdir) == before


def test_a_diverged_run_fails_with_its_cure(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("train", *TINY, "optimizer=sgd", "schedule=constant", "schedule.lr=1e30")
    assert answer.code == 1
    assert "try a smaller schedule.lr" in answer.err


def test_help_is_there_within_half_a_second() -> None:
    """Not a benchmark: ten times the usual time, so that only a heavy import at start-up fails it."""
    start = time.perf_counter()
    command = [sys.executable, "-c", "import sys; from sweeps.cli import run; sys.exit(run(['--help']))"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 0.5
    assert "makemore sweep" in answer.stdout


def test_the_command_line_loads_no_heavy_package_before_it_is_needed() -> None:
    code = "import sweeps.cli, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "hydra", "optuna", "mlflow", "pandas"} & set(loaded)


def test_a_shell_completes_commands_and_their_keys(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "makemore train model.bl")
    assert makemore("-sc", "query=bash").out.split() == ["model.block_size="]
    monkeypatch.setenv("COMP_LINE", "makemore sample t")
    assert makemore("-sc", "query=bash").out.split() == ["temperature=", "tracking."]
