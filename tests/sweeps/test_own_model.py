"""What is wrong with a model of one's own is one line, before anything is written."""

import sys
from pathlib import Path

import pytest
from conftest import Makemore

MODEL = """\
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from makemore import ModelConfig


@dataclass(frozen=True)
class Own(ModelConfig):
    block_size: int
    width: int = 4
    every_position: ClassVar[bool] = False

    def build(self, vocab_size, generator):
        return Network(self, vocab_size)


class Network(nn.Module):
    def __init__(self, config, vocab_size):
        super().__init__()
        self.C = nn.Embedding(vocab_size, config.width)
        self.out = nn.Linear(config.width, vocab_size)

    def forward(self, x):
        return self.out(self.C(x).mean(1))
"""
YAML = "_target_: own_model.Own\nblock_size: 3\nwidth: 4\n"
SHORT = ("train.steps=10", "train.evaluations=2")

pytestmark = pytest.mark.usefixtures("own_code")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model of one's own that is right."""
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/own.yaml").write_text(YAML)
    (tmp_path / "own_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path) -> set[str]:
    """What is in the folder, but for the user's own files and what Python keeps of them."""
    return {path.name for path in folder.iterdir()} - {"conf", "own_model.py", "__pycache__"}


def check_refused(makemore: Makemore, folder: Path, message: str, *more: str) -> None:
    for command in (("train",), ("sweep", "space=none", "schedule.lr=0.001,0.01", "study.workers=1")):
        answer = makemore(command[0], "--config-dir", "conf", "model=own", *command[1:], *SHORT, *more)
        assert answer.code == 2, answer.err
        assert message in answer.err
        assert answer.err.startswith("makemore: ")
        assert answer.err.count("\n") == 1
        assert answer.out == ""
        assert written(folder) == set()


def test_a_model_that_is_right_is_trained(makemore: Makemore, folder: Path) -> None:
    answer = makemore("train", "--config-dir", "conf", "model=own", *SHORT)
    assert answer.code == 0, answer.err
    assert written(folder) == {"mlruns"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model._target_=absent.Own", "model._target_ is absent.Own; there is no module absent: put absent.py into"),
        ("model._target_=own_model.Absent", "own_model.py has no Absent: it must be MODULE.CLASS"),
        ("model._target_=own_model.Network", "does not extend ModelConfig: it must be MODULE.CLASS"),
        ("model._target_=own_model.ModelConfig", "does not extend ModelConfig: it must be MODULE.CLASS"),
        ("model._target_=os.getcwd", "does not extend ModelConfig: it must be MODULE.CLASS"),
        ("model._target_=own_model", "model._target_ is own_model; it must be MODULE.CLASS"),
        ("model._target_='own model.Own'", "model._target_ is own model.Own; it must be MODULE.CLASS"),
        ("model._target_=3", "model._target_ is 3; it must be MODULE.CLASS"),
        ("+model.layers=2", "model.layers is not a key of model=own; it must be block_size or width"),
        ("model.widht=2", "model.widht is not a key of model; did you mean width? it must be _target_, block_size or"),
        ("model.width=many", "model.width is 'many'; it must be an integer"),
        ("model.width=2.5", "model.width is 2.5; it must be an integer"),
        ("model.width=null", "model.width is None; it must be an integer"),
        ("~model.block_size", "model.block_size is missing; model=own has block_size, width"),
        ("model.block_size=0", "Own.block_size is 0; it must be an integer >= 1"),
        ("model.width=-1", "Own.build raised RuntimeError: "),
    ],
)
def test_a_wrong_key_of_a_model_is_one_line(makemore: Makemore, folder: Path, override: str, message: str) -> None:
    check_refused(makemore, folder, message, override)


POST_INIT = """\
    def __post_init__(self):
        if self.width % 2 == 0:
            raise ValueError(f"width is {self.width}; it must be odd")

    def build"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import torch\n", "import a_package_that_is_not_here\n", "importing own_model failed: No module named"),
        ("import torch\n", "raise OSError('no such thing')\n", "importing own_model failed: OSError: no such thing"),
        ("import torch\n", "import = 3\n", "importing own_model failed: SyntaxError: "),
        ("(frozen=True)", "", "Own in {folder}/own_model.py is not a frozen dataclass: it must be MODULE.CLASS"),
        ("@dataclass(frozen=True)\n", "", "is not a frozen dataclass"),
        ("class Own(ModelConfig)", "class Own", "does not extend ModelConfig"),
        ("    def build", POST_INIT, "model=own: width is 4; it must be odd"),
        ("    def build", POST_INIT.replace("ValueError", "OSError"), "OSError: width is 4; it must be odd"),
        ("return Network(self, vocab_size)", "raise OSError('no\\nmemory')", "Own.build raised OSError: no memory"),
        ("return Network(self, vocab_size)", "return None", "Own.build returned an object of type NoneType; it must"),
        ("return Network(self, vocab_size)", "return nn.Flatten()", "has no trainable parameters"),
        (".mean(1)", ".sum(0)", "returned a tensor of shape (3, 27) and torch.float32; expected logits"),
        (
            ".mean(1)",
            "",
            "expected logits, a floating-point tensor of shape (2, 27); for logits at every position, set",
        ),
        (
            "self.out(self.C(x).mean(1))",
            "self.out(self.C(x.float()))",
            "the module of Own raised RuntimeError: Expected tensor for argument #1 'indices' to have",
        ),
        ("every_position: ClassVar[bool] = False", "every_position: ClassVar[bool] = True", "of shape (2, 3, 27)"),
        ("    block_size: int\n", "    context: int = 3\n", "model.block_size is not a key of model=own"),
    ],
)
def test_a_module_that_is_wrong_is_one_line(makemore: Makemore, folder: Path, old: str, new: str, message: str) -> None:
    assert old in MODEL
    (folder / "own_model.py").write_text(MODEL.replace(old, new))
    check_refused(makemore, folder, message.replace("{folder}", str(folder)))


def test_a_model_that_sees_later_characters_is_refused(makemore: Makemore, folder: Path) -> None:
    looks_ahead = MODEL.replace("ClassVar[bool] = False", "ClassVar[bool] = True").replace(
        "self.C(x).mean(1)", "self.C(x) + self.C(x).mean(1, keepdim=True)"
    )
    (folder / "own_model.py").write_text(looks_ahead)
    check_refused(makemore, folder, "the module of Own is not causal: its logits at position 0 depend on later tokens")


def test_a_model_without_a_block_size_is_refused(makemore: Makemore, folder: Path) -> None:
    (folder / "own_model.py").write_text(MODEL.replace("    block_size: int\n", ""))
    (folder / "conf/model/own.yaml").write_text("_target_: own_model.Own\nwidth: 4\n")
    check_refused(makemore, folder, "Own has no block_size: it must have ")


def test_a_file_here_does_not_take_the_place_of_an_installed_package(makemore: Makemore, folder: Path) -> None:
    (folder / "pydoc_data.py").write_text(MODEL)
    answer = makemore("train", "--config-dir", "conf", "model=own", "model._target_=pydoc_data.Own")
    assert answer.code == 2
    assert "has no Own" in answer.err


def test_a_recorded_model_whose_class_is_gone_is_named_with_its_cure(makemore: Makemore, folder: Path) -> None:
    sweep = ("sweep", "--config-dir", "conf", "model=own", "space=none", "model.width=2,3", "study.name=a", *SHORT)
    assert makemore(*sweep, "study.workers=1", "study.confirm.top=0", "study.n_trials=2").code == 0
    (folder / "conf/model/own.yaml").unlink()
    assert makemore("sample", "study.name=a", "n=2").code == 0  # the class is enough
    (folder / "own_model.py").rename(folder / "moved.py")
    del sys.modules["own_model"]  # as in a new process
    for command in (("sample", "study.name=a"), ("final-test", "study.name=a", "final_test.confirm=true")):
        answer = makemore(*command)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "model._target_ is own_model.Own; there is no module own_model: put own_model.py into" in answer.err
