"""Each folder of examples/, copied, through the commands of its README and through a kill."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Answer, Makemore, start

from sweeps.tracking.store import MlflowClient

EXAMPLES = Path(__file__).parents[2] / "examples"
# What the README's commands get on top, so that they take seconds.
SHORT = {
    "gru": ("train.steps=30", "train.evaluations=4"),
    "transformer": ("train.steps=30", "train.evaluations=4", "model.layers=1"),
    "regression": ("task.steps=20",),
}
SEARCH = (
    *("study.n_trials=6", "study.workers=1", "study.confirm.top=1", "study.confirm.seeds=1"),
    *("pruner=median", "pruner.n_startup_trials=1", "pruner.n_warmup_steps=0"),
)
WIDE = {  # search spaces in which some trials are clearly worse than others
    "gru": ("schedule.lr=tag(log,interval(1e-5,1e-1))",),
    "transformer": ("schedule.lr=tag(log,interval(1e-5,1e-1))",),
    "regression": ("task.lr=tag(log,interval(1e-5,1e-1))",),
}

pytestmark = pytest.mark.usefixtures("own_code")


@pytest.fixture
def example(request: pytest.FixtureRequest, workdir: Path) -> str:
    """The name of an example; the current folder has a copy of its files."""
    name: str = request.param
    shutil.copytree(EXAMPLES / name, workdir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return name


def commands(example: str) -> list[list[str]]:
    """The commands in the README of an example, word by word, without `makemore`."""
    lines = (EXAMPLES / example / "README.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("makemore ")]


def shortened(example: str, command: list[str]) -> list[str]:
    """A command of a README that takes seconds."""
    name = command[0]
    own = command if "--config-dir" in command else []
    if name == "train":
        return [*command, *SHORT[example]]
    if name == "sweep":
        short = SHORT[example] if own else SHORT["gru"]
        layers = [word for word in short if not (word.startswith("model.layers") and "model.layers=1,2" in command)]
        return [*command, *layers, *SEARCH, *(WIDE[example] if own else ())]
    return [*command, "final_test.confirm=true", "format=json"] if name == "final-test" else command


def trials(folder: Path, study: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def names_of(command: list[str], key: str) -> str:
    return next(word.partition("=")[2] for word in command if word.startswith(f"{key}="))


@pytest.mark.parametrize("file", ["gru/gru.py", "transformer/transformer.py"])
def test_a_model_of_ones_own_fits_on_a_screen(file: str) -> None:
    assert len((EXAMPLES / file).read_text(encoding="utf-8").splitlines()) <= 60


def test_every_example_is_tested() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/conf")} == set(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("example", SHORT, indirect=True)
def test_the_commands_of_a_readme_do_what_it_says(makemore: Makemore, workdir: Path, example: str) -> None:
    answers: dict[str, Answer] = {}
    for command in commands(example):
        answer = makemore(*shortened(example, command))
        assert answer.code == 0, (command, answer.err)
        answers[command[0]] = answer
    assert answers["train"].out.startswith("dev loss ")
    sweep = next(command for command in commands(example) if command[0] == "sweep")
    study = names_of(sweep, "study.name")
    states = [trial.state.name for trial in trials(workdir, study)]
    assert len(states) == 6
    assert "PRUNED" in states
    result = json.loads(answers["final-test"].out)
    assert result["study"] == study
    assert result["test_loss"] > 0
    look = next(command for command in commands(example) if command[0] == "final-test")
    again = makemore(*shortened(example, look))
    assert (again.code, again.out) == (3, answers["final-test"].out)
    if "sample" in answers:
        assert len(answers["sample"].out.splitlines()) == 21
    else:
        refused = makemore("sample", f"study.name={study}")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "draws no samples: only a task with a method `sample` does" in refused.err


def table(makemore: Makemore, *arguments: str) -> list[dict[str, Any]]:
    answer = makemore("compare", *arguments, "format=json")
    assert answer.code == 0, answer.err
    rows: list[dict[str, Any]] = json.loads(answer.out)
    return [row for row in rows if row["state"] == "COMPLETE"]


@pytest.mark.slow
@pytest.mark.parametrize("example", ["gru", "transformer"], indirect=True)
def test_a_model_of_ones_own_is_compared_with_the_mlp_word_by_word(
    makemore: Makemore, workdir: Path, example: str
) -> None:
    fixed = (*SHORT["gru"], "space=none", "study.workers=1", "study.confirm.top=0", "pruner=none")
    own = ("--config-dir", "conf", f"model={example}", "model.embedding_size=8,16", "study.name=own")
    assert makemore("sweep", *own, *fixed, "study.n_trials=2").code == 0
    assert makemore("sweep", *fixed, "model.hidden_neurons=8,16", "study.name=mlp", "study.n_trials=2").code == 0
    best = min(trial.value or 0.0 for trial in trials(workdir, "mlp"))
    rows = table(makemore, "study.name=own", "studies=[mlp]", "baseline=mlp")
    assert sorted(row["study"] for row in rows) == ["mlp", "mlp", "own", "own"]
    for row in rows:
        assert row["difference"] == pytest.approx(row["best_dev_loss"] - best, abs=1e-5)
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]


@pytest.mark.slow
@pytest.mark.parametrize("example", ["regression"], indirect=True)
def test_a_task_of_ones_own_is_compared_flat_by_flat_and_not_with_words(
    makemore: Makemore, workdir: Path, example: str
) -> None:
    fixed = ("space=none", "study.workers=1", "study.confirm.top=0", "pruner=none", "study.n_trials=2")
    own = ("--config-dir", "conf", "task=regression", "task.width=4,16", "study.name=own", *SHORT["regression"])
    assert makemore("sweep", *own, *fixed).code == 0
    losses = {trial.number: trial.value or 0.0 for trial in trials(workdir, "own")}
    for row in table(makemore, "study.name=own", "baseline=0"):
        assert row["difference"] == pytest.approx(losses[row["trial"]] - losses[0], abs=1e-6)
    words = (*SHORT["gru"], "model.hidden_neurons=4,8", "study.name=mlp")
    assert makemore("sweep", *words, *fixed).code == 0
    refused = makemore("compare", "study.name=own", "studies=[mlp]", "baseline=mlp")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("example", ["transformer"], indirect=True)
def test_a_killed_sweep_of_ones_own_model_goes_on_to_its_exact_total(workdir: Path, example: str) -> None:
    arguments = (
        *("sweep", "--config-dir", "conf", "model=transformer", "space=none", "study.name=own", "pruner=none"),
        *("study.n_trials=6", "study.workers=2", "study.confirm.top=1", "study.confirm.seeds=1"),
        *("model.layers=1", "model.embedding_size=8,16,32", "schedule.lr=0.003,0.01", "train.steps=100"),
    )
    process = start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    database = workdir / "mlruns/study.db"
    while not database.exists() or not any(trial.intermediate_values for trial in known_trials(workdir)):
        assert process.poll() is None, "the sweep ended before it was killed"
        assert time.monotonic() < deadline, "no trial reported within a minute"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any(trial.state.name == "RUNNING" for trial in trials(workdir, "own"))
    again = start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    recorded = trials(workdir, "own")
    complete = [json.dumps(trial.params) for trial in recorded if trial.state.name == "COMPLETE"]
    assert len(complete) == 6
    assert all(trial.state.is_finished() for trial in recorded)
    failed = {trial.number for trial in recorded if trial.state.name == "FAIL"}
    assert {trial.user_attrs.get("retry_of") for trial in recorded} - {None} == failed
    assert [trial.state.name for trial in trials(workdir, "own (confirm)")] == ["COMPLETE"]
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    statuses = [run.info.status for run in client.search_runs(["1"], "tags.kind = 'trial'")]
    assert sorted(statuses) == ["FINISHED"] * 6 + ["KILLED"] * len(failed)


def known_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The trials of the study, if it is there already."""
    try:
        return trials(folder, "own")
    except KeyError:
        return []
