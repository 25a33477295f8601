"""The seam: what a task is. A user's own task extends `Task`; the shipped one is in `language_model/`."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sweeps.errors import RequestError
from sweeps.task.weights import read_weights, write_weights


class Report(Protocol):
    """What training calls after each evaluation."""

    def __call__(self, step: int, dev_loss: float, **metrics: float) -> None:
        """Record a dev loss at a step, and further metrics of that step; what it raises must end the training."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves."""

    module: nn.Module
    metrics: Mapping[str, float] = field(default_factory=dict)  # figures of the whole run, recorded with it
    train_fingerprint: str = ""  # names the items that it was trained on, where it was read back


@dataclass(frozen=True)
class Description:
    """What a run's record says of a trained model beside the harness's own figures."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # Markdown: the description of the run in MLflow's UI
    remarks: Sequence[str] = ()  # lines that `makemore train` prints
    files: Mapping[str, str] = field(default_factory=dict)  # texts that are kept with the run, by file name


@dataclass(frozen=True)
class Baseline:
    """A simple model that a winner is compared with at the one look."""

    name: str
    losses: Tensor  # for each item the sum of its losses, (n,) float64
    smoothing: float | None = None


class Task:
    """Anything with items and a loss for each item. Extend it as a frozen dataclass: its fields are keys.

    `task.depth=2,3,4` searches the field `depth`. The harness reads the items, deals them into train, dev and test,
    hands out the first two, and keeps the door to the third. A class needs `read`, `build`, `train` and `losses`; the
    other methods have defaults.
    """

    item: ClassVar[str] = "item"  # the noun for one item, in messages and reports
    term: ClassVar[str] = "term"  # the noun for what an item's losses are summed over
    unit: ClassVar[str] = "loss per term"
    evaluations: int | None = None  # how often `train` reports, where that is known: for the progress line

    def read(self) -> Sequence[str]:
        """The items as text without line ends: rows, sentences, names of files."""
        raise NotImplementedError

    def group(self, item: str) -> str:
        """The group of an item: items of one group never land in two splits. By default, the item itself."""
        return item

    def build(self) -> nn.Module:
        """An untrained module of the shape that the fields ask for; recorded weights are loaded into it."""
        raise NotImplementedError

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Train a module on the train items; the same seed must give the same weights.

        Args:
            report: call it as report(step, dev_loss) after each evaluation of dev, with a falling or rising loss: the
                study may end the run there. It raises `Diverged` where dev_loss is NaN or infinite.
        """
        raise NotImplementedError

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """For each item the sum of its losses and the number of terms in that sum; both (n,), float64.

        A run's dev loss is the sum of all losses divided by the number of all terms.
        """
        raise NotImplementedError

    def params(self) -> dict[str, Any]:
        """The keys of the task with their values, spelled as on the command line."""
        names = [item.name for item in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {f"task.{name}": getattr(self, name) for name in names}

    def source(self) -> tuple[str, Path | None]:
        """The name of the list that the items come from, and its file where there is one."""
        return type(self).__name__, None

    def check(self) -> None:
        """Raise ValueError, with one line that says what was expected, where no run of these fields could succeed."""

    def parameters(self) -> int:
        """How many trainable numbers the module has."""
        return sum(parameter.numel() for parameter in self.build().parameters())

    def save(self, trained: Trained, path: Path, train_fingerprint: str) -> str:
        """Write the weights as safetensors; returns their digest."""
        return write_weights(path, trained.module.state_dict(), {"train_fingerprint": train_fingerprint})

    def load(self, path: Path) -> Trained:
        """The trained module from weights that `save` wrote."""
        module = self.build()
        weights, metadata = read_weights(path)
        module.load_state_dict(weights)
        return Trained(module.eval(), train_fingerprint=metadata["train_fingerprint"])

    def describe(self, trained: Trained, dev_loss: float, seed: int) -> Description:
        """What the run's record says about the module that has just been trained."""
        return Description()

    def draw(self, trained: Trained, curve: Sequence[Mapping[str, float]], folder: Path) -> None:
        """Draw what a person will look at: for single runs, and for a study's winner.

        Args:
            curve: what was reported: step, dev_loss and the metrics that were given with it.
        """

    def sample(self, trained: Trained, n: int, temperature: float, seed: int, prefix: str) -> list[str]:
        """New items from a trained model.

        Raises:
            RequestError: the task has none to give, or the request is wrong.
        """
        raise RequestError(f"{type(self).__name__} draws no samples: only a task with a method `sample` does")

    def baselines(self, train: Sequence[str], dev: Sequence[str], items: Sequence[str]) -> list[Baseline]:
        """Simple models for comparison at the one look: fitted on train, tuned on dev, evaluated on the items."""
        return []

    def figures(self, loss: float) -> dict[str, float]:
        """A loss in other units, by name."""
        return {}

    def why_no_look(self, trained: Trained) -> str:
        """Why the test loss of this model might not be a finite number; empty where it will be one."""
        return ""
