"""A trial that dies goes on from its last checkpoint, bitwise as if it had not died."""

import json
import math
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from conftest import Makemore, call, start
from fake_tasks import FAKE
from optuna.trial import FrozenTrial

from sweeps.databases import close_databases
from sweeps.task.state import read_state, write_state
from sweeps.tracking.store import MlflowClient

GRU_EXAMPLE = Path(__file__).parents[2] / "examples" / "gru"


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    matrix = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    state = {
        "tensors": [matrix.t(), matrix.t(), torch.tensor(3), torch.tensor([True]), torch.empty(0, 2)],
        0: {"betas": (0.9, 0.999), "lr": 0.1 + 0.2, "inf": math.inf, "none": None, "": "", "flag": True},
        "nested": [[], {}, ((1,), 2**80)],
    }
    write_state(tmp_path / "state", state)
    again = read_state(tmp_path / "state")
    assert list(again) == ["tensors", 0, "nested"]
    assert (again[0], again["nested"]) == (state[0], state["nested"])
    assert isinstance(again[0]["flag"], bool)
    for one, other in zip(again["tensors"], state["tensors"], strict=True):  # type: ignore[call-overload]
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize(("value", "kind"), [({1, 2}, "set"), (object(), "object"), (b"x", "bytes"), (1j, "complex")])
def test_what_json_and_tensors_cannot_hold_is_refused_by_its_place(tmp_path: Path, value: object, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^state\.model\.0 is of type {kind}; a state of training must be made of"):
        write_state(tmp_path / "state", {"model": [value]})


def trials(folder: Path, name: str = "a") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def run_of(folder: Path, trial: FrozenTrial) -> Any:
    return MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db").get_run(trial.user_attrs["run_id"])


def checkpoints(folder: Path) -> list[Path]:
    return list((folder / "mlruns/artifacts").rglob("checkpoint.safetensors"))


def wait_for(condition: Any, process: "subprocess.Popen[str]", seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the sweep ended before it was killed"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


SMALL = (
    "study.name=a",
    "study.workers=1",
    "study.confirm.top=0",
    "pruner=none",
    "space=none",
    "seed=7",
    "model.block_size=3,3",
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", pytest.param("gru", marks=pytest.mark.nightly)])
def test_a_trial_killed_at_four_fifths_trains_the_rest_to_the_same_weights(workdir: Path, kind: str) -> None:
    """With the fast step, and with automatic differentiation of a model of one's own."""
    shutil.copytree(GRU_EXAMPLE, workdir, dirs_exist_ok=True)
    own = ("--config-dir", "conf") if kind == "gru" else ()
    steps = {"mlp": 40_000, "gru": 400}[kind]
    dropout = ("model.dropout=0.1",)
    arguments = ("sweep", *own, *SMALL, f"model={kind}", *dropout, "train.evaluations=20", f"train.steps={steps}")
    call(workdir, *arguments, "study.name=undisturbed")
    [undisturbed] = trials(workdir, "undisturbed")
    killed = (*arguments, "train.checkpoint=0")
    process = start(*killed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    database = workdir / "mlruns/study.db"

    def is_at_four_fifths() -> bool:
        found = trials(workdir) if database.exists() and "a" in names(workdir) else []
        return bool(found) and len(found[0].intermediate_values) >= 16 and bool(checkpoints(workdir))

    wait_for(is_at_four_fifths, process)
    process.kill()
    process.communicate()
    [dead] = trials(workdir)
    assert dead.state.name == "RUNNING"
    assert len(dead.intermediate_values) < 20
    call(workdir, *killed)
    first, retry = trials(workdir)
    assert (first.state.name, retry.state.name) == ("FAIL", "COMPLETE")
    assert retry.intermediate_values == undisturbed.intermediate_values
    assert retry.value == undisturbed.value
    assert retry.user_attrs["weights_digest"] == undisturbed.user_attrs["weights_digest"]
    tags, metrics = run_of(workdir, retry).data.tags, run_of(workdir, retry).data.metrics
    assert int(tags["resumed_at_step"]) >= 0.75 * steps
    assert metrics["steps"] == steps
    assert checkpoints(workdir) == []


def names(folder: Path) -> list[str]:
    return optuna.get_all_study_names(f"sqlite:///{folder}/mlruns/study.db")


RESUMES = """\
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from fake_tasks import Instant
from sweeps import Trained, resumed_state


@dataclass(frozen=True)
class Resumes(Instant):
    dies_at: int
    evaluations: ClassVar[int] = 5

    def train(self, train, dev, seed, report):
        state = resumed_state(report) or {"step": 0, "total": 0.0}
        step, total = state["step"], state["total"]
        while step < 5:
            step, total = step + 1, total + self.level * seed
            with Path("steps.txt").open("a") as file:
                file.write(f"{seed}:{step} ")
            if step == self.dies_at and not Path(f"died-{seed}").exists():
                Path(f"died-{seed}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            report(step, 10 - step + self.level, state=lambda: {"step": step, "total": total})
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, total)
        return Trained(module)
"""


@pytest.fixture
def resumes(workdir: Path, own_code: None) -> tuple[str, ...]:
    """A study of a task that can go on, and is killed once with each seed, by a worker of its own process."""
    (workdir / "resumes.py").write_text(RESUMES)
    (workdir / "conf/task").mkdir(parents=True)
    (workdir / "conf/task/resumes.yaml").write_text("_target_: resumes.Resumes\nlevel: 1.0\ndies_at: 4\n")
    words = (
        "task=resumes",
        "study.name=a",
        "study.workers=2",
        "study.confirm.top=0",
        "space=none",
        "task.level=1.0,1.0",
    )
    return ("sweep", "--config-dir", "conf", *words)


def steps(folder: Path) -> list[str]:
    return (folder / "steps.txt").read_text().split()


@pytest.mark.slow
def test_a_task_of_ones_own_goes_on_with_the_state_that_it_reported(workdir: Path, resumes: tuple[str, ...]) -> None:
    call(workdir, *resumes, "seed=1", "train.checkpoint=0")
    assert steps(workdir) == ["1:1", "1:2", "1:3", "1:4", "1:4", "1:5"]
    first, retry = trials(workdir)
    assert (first.state.name, retry.state.name) == ("FAIL", "COMPLETE")
    assert retry.intermediate_values == {number: 11.0 - number for number in range(1, 6)}
    assert run_of(workdir, retry).data.tags["resumed_at_step"] == "3"
    assert checkpoints(workdir) == []


@pytest.mark.slow
def test_seeds_that_were_trained_are_not_trained_again(workdir: Path, resumes: tuple[str, ...]) -> None:
    call(workdir, *resumes, "seed=1,2", "train.checkpoint=0")
    assert steps(workdir) == [
        *["1:1", "1:2", "1:3", "1:4", "1:4", "1:5"],
        *["2:1", "2:2", "2:3", "2:4", "2:4", "2:5"],
    ]
    assert [trial.state.name for trial in trials(workdir)] == ["FAIL", "FAIL", "COMPLETE"]
    assert checkpoints(workdir) == []


@pytest.mark.slow
@pytest.mark.parametrize("given", ["false", "null"])
def test_a_short_trial_without_checkpoints_begins_anew(workdir: Path, resumes: tuple[str, ...], given: str) -> None:
    call(workdir, *resumes, "seed=1", f"train.checkpoint={given}")
    assert steps(workdir) == ["1:1", "1:2", "1:3", "1:4", "1:1", "1:2", "1:3", "1:4", "1:5"]
    assert trials(workdir)[1].state.name == "COMPLETE"


@pytest.mark.slow
def test_an_interrupted_trial_goes_on_and_a_damaged_checkpoint_is_said(makemore: Makemore, workdir: Path) -> None:
    arguments = ("sweep", *SMALL, "train.evaluations=50", "train.steps=50000", "train.checkpoint=0")
    for damage in (False, True):
        process = start(*arguments, f"study.name=study-{damage}", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(lambda: len(checkpoints(workdir)) == 1, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        [file] = checkpoints(workdir)
        if damage:
            file.write_bytes(file.read_bytes()[:1000])
        again = start(*arguments, f"study.name=study-{damage}", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, errors = again.communicate(timeout=120)
        assert again.returncode == 0, errors
        _, retry = trials(workdir, f"study-{damage}")
        assert ("resumed_at_step" in run_of(workdir, retry).data.tags) != damage
        assert errors.count("so its training begins anew") == damage
        shutil.rmtree(file.parent)
    one, other = (trials(workdir, f"study-{damage}")[1].user_attrs["weights_digest"] for damage in (False, True))
    assert one == other


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-1", "train.checkpoint is -1.0; it must be null, true, false, or a number of seconds up to 86400"),
        ("nan", "train.checkpoint is nan; it must be null, true, false, or a number of seconds up to 86400"),
        ("often", "train.checkpoint is 'often'; it must be true or false or a number or null"),
    ],
)
def test_a_wrong_value_is_one_line(makemore: Makemore, workdir: Path, value: str, message: str) -> None:
    for command in (("sweep", "study.name=a"), ("sweep", *FAKE, "task=instant", "task.level=1.0,2.0"), ("train",)):
        answer = makemore(*command, f"train.checkpoint={value}")
        assert (answer.code, answer.out, answer.err) == (2, "", f"makemore: {message}\n")


def test_the_key_changes_nothing_about_a_run(makemore: Makemore, workdir: Path) -> None:
    tiny = ("sweep", "study.name=a", "train.steps=20", "train.evaluations=2", "study.workers=1", "study.confirm.top=0")
    assert makemore(*tiny, "study.n_trials=1").code == 0
    assert makemore(*tiny, "study.n_trials=2", "train.checkpoint=true").code == 0  # it is the same study
    rows = json.loads(makemore("compare", "format=json").out)
    assert len(rows) == 2
    assert "train.checkpoint" not in {key for row in rows for key in row}
    close_databases()
    assert [path.name for path in workdir.iterdir()] == ["mlruns"]
