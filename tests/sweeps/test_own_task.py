"""A task of one's own: what is wrong with it is one line; what it reports decides, and its groups stay together."""

import json
import math
from pathlib import Path

import optuna
import pytest
from conftest import Makemore
from fake_tasks import CONF, FAKE

from sweeps.task.item_losses import read_item_losses
from sweeps.tracking.store import MlflowClient

TASK = """\
from dataclasses import dataclass

import torch
from torch import nn

from sweeps import Task, Trained


@dataclass(frozen=True)
class Own(Task):
    size: int
    rate: float = 0.1

    def read(self):
        return [f"item {number}" for number in range(40)]

    def build(self):
        return nn.Linear(self.size, 1)

    def train(self, train, dev, seed, report):
        report(1, 1.0)
        return Trained(self.build())

    def losses(self, trained, items):
        return torch.ones(len(items)), torch.ones(len(items))
"""
YAML = "_target_: own_task.Own\nsize: 3\n"
STUDY = ("space=none", "task.size=2,3", "study.name=a", "study.workers=1", "study.confirm.top=0", "study.n_trials=2")

pytestmark = pytest.mark.usefixtures("own_code")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a task of one's own that is right."""
    (tmp_path / "conf/task").mkdir(parents=True)
    (tmp_path / "conf/task/own.yaml").write_text(YAML)
    (tmp_path / "own_task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    """What is in the folder, but for the user's own files and what Python keeps of them."""
    return {path.name for path in folder.iterdir()} - {"conf", "own_task.py", "__pycache__"}


def write_task(folder: Path, old: str, new: str) -> None:
    assert old in TASK
    (folder / "own_task.py").write_text(TASK.replace(old, new))


def check_refused(makemore: Makemore, folder: Path, message: str, *more: str) -> None:
    for command in (("train",), ("sweep", *STUDY)):
        answer = makemore(command[0], "--config-dir", "conf", "task=own", *command[1:], *more)
        assert answer.code == 2, answer.err
        assert message in answer.err
        assert answer.err.startswith("makemore: ")
        assert answer.err.count("\n") == 1
        assert answer.out == ""
        assert written(folder) == set()


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="a", storage=f"sqlite:///{folder}/mlruns/study.db").trials


def test_a_task_that_is_right_is_trained(makemore: Makemore, folder: Path) -> None:
    answer = makemore("train", "--config-dir", "conf", "task=own")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("dev loss 1.0000 loss per term")
    assert written(folder) == {"mlruns"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task._target_=absent.Own", "task._target_ is absent.Own; there is no module absent: put absent.py into"),
        ("task._target_=own_task.Absent", "own_task.py has no Absent: it must be MODULE.CLASS"),
        ("task._target_=own_task.Trained", "does not extend Task: it must be MODULE.CLASS, a frozen dataclass"),
        ("task._target_=own_task.Task", "does not extend Task: it must be MODULE.CLASS"),
        ("task._target_=own_task", "task._target_ is own_task; it must be MODULE.CLASS"),
        ("+task.depth=2", "task.depth is not a key of task=own; it must be size or rate"),
        ("task.rate=0.2", "task.rate is not a key of task; "),  # it has no line in the file: +task.rate
        ("+task.rate=fast", "task.rate is 'fast'; it must be a number"),
        ("data.split=random", "data.split is random; it must be lecture or disjoint"),
        ("data.split_seed=-1", "data.split_seed is -1; it must be >= 0"),
        ("task=onw", "task is onw; did you mean own? it must be language_model"),
    ],
)
def test_a_wrong_key_of_a_task_is_one_line(makemore: Makemore, folder: Path, override: str, message: str) -> None:
    check_refused(makemore, folder, message, override)


def test_a_key_that_is_needed_and_not_given_is_one_line(makemore: Makemore, folder: Path) -> None:
    answer = makemore("train", "--config-dir", "conf", "task=own", "~task.size")
    assert (answer.code, answer.err) == (2, "makemore: task.size is missing; task=own has size, rate\n")
    assert written(folder) == set()


def test_a_wrong_type_of_a_searched_key_is_one_line(makemore: Makemore, folder: Path) -> None:
    sweep = ("sweep", "--config-dir", "conf", "task=own", *STUDY)
    answer = makemore(*sweep, "task.size=2,many")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "task.size is 'many'; it must be an integer" in answer.err
    assert written(folder) == set()


def without(method: str) -> tuple[str, str]:
    """Old and new text: a task without one of its methods."""
    return f"    def {method}(", f"    def {method}_of_another_name("


POST_INIT = """\
    def __post_init__(self):
        raise ValueError(f"size is {self.size}; it must be even")

    def read"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import torch\n", "import a_package_that_is_not_here\n", "importing own_task failed: No module named"),
        ("import torch\n", "raise OSError('no such thing')\n", "importing own_task failed: OSError: no such thing"),
        ("(frozen=True)", "", "own_task.py is not a frozen dataclass: it must be MODULE.CLASS"),
        ("class Own(Task)", "class Own", "own_task.py does not extend Task: it must be MODULE.CLASS"),
        *(
            (*without(method), f"task=own: Own has no method {method}")
            for method in ("read", "build", "train", "losses")
        ),
        ("    def read", POST_INIT, "it must be even"),
        ("return [f", "raise OSError('no\\nfile'); return [f", "Own.read failed: OSError: no; file"),
        ('f"item {number}"', "number", "Own.read returned 0 as item 0; it must return text without line ends"),
        ('f"item {number}"', '"a\\nb"', "Own.read returned 'a\\nb' as item 0; it must return text without line ends"),
        (
            "range(40)",
            "range(9)",
            "Own: the list has 9 distinct items; a split into train, dev and test needs at least",
        ),
        (
            "    def build",
            "    def group(self, item):\n        return item[-1:] and 'all'\n\n    def build",
            "Own: the list has 1 distinct items",
        ),
    ],
)
def test_a_task_that_is_wrong_is_one_line(makemore: Makemore, folder: Path, old: str, new: str, message: str) -> None:
    write_task(folder, old, new)
    check_refused(makemore, folder, message)


def test_groups_are_dealt_by_the_disjoint_rule_alone(makemore: Makemore, folder: Path) -> None:
    write_task(folder, "    def build", "    def group(self, item):\n        return item[-1:]\n\n    def build")
    check_refused(makemore, folder, "data.split is lecture; ", "data.split=lecture")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "return torch.ones(len(items)), torch.ones(len(items))",
            "return torch.ones(1), torch.ones(len(items))",
            "ValueError: Own.losses returned shapes (1,) and (4,); it must return two tensors of 4 numbers",
        ),
        (
            "return torch.ones(len(items)), torch.ones(len(items))",
            "return torch.ones(len(items))",
            "ValueError: Own.losses returned Tensor; it must return two tensors of 4 numbers",
        ),
        (
            "return torch.ones(len(items)), torch.ones(len(items))",
            "return torch.ones(len(items)), torch.zeros(len(items))",
            "ValueError: Own.losses returned no terms; it must return two tensors of 4 numbers",
        ),
        (
            "return Trained(self.build())",
            "return self.build()",
            "TypeError: Own.train returned Linear; it must return Trained",
        ),
        ("report(1, 1.0)", "raise OSError('no memory')", "OSError: no memory"),
    ],
)
def test_what_is_wrong_with_a_training_is_one_line_and_a_failed_run(
    makemore: Makemore, folder: Path, old: str, new: str, message: str
) -> None:
    write_task(folder, old, new)
    answer = makemore("train", "--config-dir", "conf", "task=own")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert message in answer.err
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"])
    assert (run.info.status, message in run.data.tags["reason"]) == ("FAILED", True)
    answer = makemore("sweep", "--config-dir", "conf", "task=own", *STUDY)
    assert answer.code == 1
    assert "no trial of study a is complete: stopped at 0 of 2 trials: 2 failed" in answer.err
    assert {trial.user_attrs["reason"] for trial in trials(folder)} == {run.data.tags["reason"]}


def test_a_trial_that_reports_nan_is_pruned_and_never_wins(makemore: Makemore, workdir: Path) -> None:
    levels = ("task=diverges", "task.limit=2.0", "task.level=1.0,3.0,1.5", "sampler=grid", "pruner=none")
    answer = makemore("sweep", *FAKE, *levels, *STUDY[2:-1])
    assert answer.code == 0, answer.err
    by_level = {trial.params["task.level"]: trial for trial in trials(workdir)}
    assert {level: trial.state.name for level, trial in by_level.items()} == {
        1.0: "COMPLETE",
        3.0: "PRUNED",
        1.5: "COMPLETE",
    }
    assert by_level[3.0].value == math.inf
    assert by_level[3.0].user_attrs["pruning_reason"] == "Diverged: the dev loss is nan at step 1"
    assert f"winner: trial {by_level[1.0].number}, dev loss" in answer.out


def test_losses_that_are_infinite_after_a_good_report_never_win(makemore: Makemore, folder: Path) -> None:
    write_task(folder, "return torch.ones(len(items)), ", "return torch.ones(len(items)) / (self.size - 2), ")
    answer = makemore("sweep", "--config-dir", "conf", "task=own", *STUDY, "sampler=grid", "pruner=none")
    assert answer.code == 0, answer.err
    assert {trial.params["task.size"]: trial.state.name for trial in trials(folder)} == {2: "PRUNED", 3: "COMPLETE"}


def test_what_a_task_reports_is_its_curve_and_its_losses_are_kept_item_by_item(
    makemore: Makemore, workdir: Path
) -> None:
    answer = makemore("train", *FAKE, "task=curve", "task.level=2.0", "task.losses_reported=[0.5,0.25]")
    assert answer.code == 0, answer.err
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"])
    assert (run.data.params["task"], run.data.params["task.level"], run.data.params["data.split"]) == (
        "curve",
        "2.0",
        "disjoint",
    )
    assert not [key for key in run.data.params if key.partition(".")[0] in ("model", "optimizer", "schedule", "train")]
    for key, expected in (("dev_loss", [(1, 2.5), (2, 2.25)]), ("train_loss", [(1, 2.25), (2, 2.125)])):
        history = client.get_metric_history(run.info.run_id, key)
        assert [(point.step, point.value) for point in history] == expected
    losses, terms = read_item_losses(
        workdir / "mlruns/artifacts" / run.info.run_id / "artifacts/dev_losses.safetensors"
    )
    assert len(losses) == 4  # a tenth of forty
    assert terms.tolist() == [1.0] * 4
    assert ((losses - 2.0) * 1000).round().tolist() == pytest.approx(((losses - 2.0) * 1000).tolist(), abs=1e-6)
    assert run.data.metrics["best_dev_loss"] == pytest.approx(float(losses.mean()))


def test_a_study_of_a_task_confirms_compares_and_takes_its_look(makemore: Makemore, workdir: Path) -> None:
    study = ("study.name=a", "study.workers=1", "study.confirm.top=2", "study.confirm.seeds=2", "study.n_trials=3")
    answer = makemore("sweep", *FAKE, "task=houses", "task.level=1.0,1.5,2.0", "sampler=grid", *study)
    assert answer.code == 0, answer.err
    [best] = [trial for trial in trials(workdir) if trial.params["task.level"] == 1.0]
    table = json.loads(makemore("compare", "study.name=a", f"baseline={best.number}", "format=json").out)
    differences = {row["task.level"]: row["difference"] for row in table}
    assert differences == pytest.approx({1.0: 0.0, 1.5: 0.5, 2.0: 1.0})
    look = makemore("final-test", "study.name=a", "final_test.confirm=true", "format=json")
    assert look.code == 0, look.err
    result = json.loads(look.out)
    assert result["trial"] == best.number
    assert result["flats"] == 30  # six houses of sixty, each with its five flats
    refused = makemore("sample", "study.name=a")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "Houses draws no samples" in refused.err


def test_every_fake_task_has_a_file() -> None:
    import fake_tasks

    named = {path.read_text().splitlines()[0].rpartition(".")[2] for path in (CONF / "task").glob("*.yaml")}
    classes = {name for name, kind in vars(fake_tasks).items() if isinstance(kind, type)}
    assert named == {name for name in classes if getattr(fake_tasks, name).__module__ == "fake_tasks"}
