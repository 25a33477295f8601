"""The interface of a task. A user's own task extends `Task`; the shipped task is in `language_model/`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sweeps.errors import RequestError
from sweeps.task.weights import read_weights, write_weights

State = Mapping[str, Any]


def resumed_state(report: "Report") -> State | None:
    """The state that an earlier attempt at the same training reported last; None where training begins.

    What was reported up to then is known: training goes on behind it.
    """
    state: State | None = getattr(report, "resumed_state", None)
    return state


class Report(Protocol):
    """The function that training calls after each evaluation."""

    def __call__(
        self, step: int, dev_loss: float, *, state: Callable[[], State] | None = None, **metrics: float
    ) -> None:
        """Record the dev loss and further metrics of a step; an exception that this raises must end the training.

        Args:
            state: gives all that training needs to go on from this step: tensors, numbers and texts in dicts, lists
                and tuples. It is called now, or not at all.
        """


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained module and what is recorded with it."""

    module: nn.Module
    metrics: Mapping[str, float] = field(default_factory=dict)  # metrics of the whole run, recorded with it
    train_fingerprint: str = ""  # the digest of the items that it was trained on, after `load`


@dataclass(frozen=True)
class Description:
    """The task's additions to the record of a run, beside the harness's own metrics."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # the description of the run in MLflow's UI, in Markdown
    remarks: Sequence[str] = ()  # lines that `makemore train` prints
    files: Mapping[str, str] = field(default_factory=dict)  # texts that become artifacts of the run, by file name


@dataclass(frozen=True)
class Baseline:
    """A simple model with which the winner is compared at the one look."""

    name: str
    losses: Tensor  # the sum of each item's losses, (n,) float64
    smoothing: float | None = None  # the amount that was best on dev: what is added to counts, or the discount


class Task:
    """Anything with items and a loss for each item. Extend it as a frozen dataclass whose fields are config keys.

    `task.depth=2,3,4` searches the field `depth`. The harness reads the items and deals them into train, dev and
    test; the task is given test items only at the one look. A class needs the methods `read`, `build`, `train` and
    `losses`; the other methods have defaults.
    """

    item: ClassVar[str] = "item"  # the noun for an item, in messages and reports
    term: ClassVar[str] = "term"  # the noun for a term of the sum that is an item's loss
    unit: ClassVar[str] = "loss per term"  # the unit of losses
    evaluations: int | None = None  # how often `train` reports, for the progress line; None: unknown

    def read(self) -> Sequence[str]:
        """The items, each a text without line ends: rows, sentences or names of files, for example."""
        raise NotImplementedError

    def group(self, item: str) -> str:
        """The group of an item, by default the item itself. Items of one group are always in the same split."""
        return item

    def build(self) -> nn.Module:
        """An untrained module of the shape that the fields give; recorded weights are loaded into it."""
        raise NotImplementedError

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """A module trained on the train items; the same seed must give the same weights.

        Args:
            report: call it as report(step, dev_loss) after each evaluation of dev. It raises to end the run: where
                the study prunes the trial, and `Diverged` if dev_loss is NaN or infinite. With a `state` of training,
                a trial whose worker dies is tried again from there: see `resumed_state`.
        """
        raise NotImplementedError

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Each item's sum of losses and the number of terms in that sum; both (n,) float64.

        A run's dev loss is the sum of all losses divided by the number of all terms.
        """
        raise NotImplementedError

    def params(self) -> dict[str, Any]:
        """The task's keys, spelled as on the command line, and their values."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        return {f"task.{name}": getattr(self, name) for name in names}

    def source(self) -> tuple[str, Path | None]:
        """The name of the list that the items come from, and its file, or None without a file."""
        return type(self).__name__, None

    def check(self) -> None:
        """Raise ValueError, with one line that says what is expected, if no run with these fields can succeed."""

    def remarks(self, dev: Sequence[str]) -> Sequence[str]:
        """What is odd about the items, a line each with its cure; printed before training, which goes on."""
        return ()

    def parameters(self) -> int:
        """The number of trainable weights in the module."""
        return sum(parameter.numel() for parameter in self.build().parameters())

    def save(self, trained: Trained, path: Path, train_fingerprint: str) -> str:
        """The digest of the weights (SHA-256 in hex), after writing them as safetensors."""
        return write_weights(path, trained.module.state_dict(), {"train_fingerprint": train_fingerprint})

    def load(self, path: Path) -> Trained:
        """The trained module from weights that `save` wrote."""
        module = self.build()
        weights, metadata = read_weights(path)
        module.load_state_dict(weights)
        return Trained(module.eval(), train_fingerprint=metadata["train_fingerprint"])

    def describe(self, trained: Trained, dev_loss: float, seed: int) -> Description:
        """The task's additions to the record of the run that has just been trained; dev_loss is in `unit`."""
        return Description()

    def draw(self, trained: Trained, curve: Sequence[Mapping[str, float]], folder: Path) -> None:
        """Draw pictures of a trained module into a folder; called for single runs and for a study's winner.

        Args:
            curve: for each evaluation its step, its dev_loss and the other reported metrics.
        """

    def sample(self, trained: Trained, n: int, temperature: float, seed: int, prefix: str) -> list[str]:
        """`n` new items from a trained model.

        Raises:
            RequestError: the task draws no samples, or the request is wrong.
        """
        raise RequestError(f"{type(self).__name__} draws no samples: only a task with a method `sample` does")

    def baselines(self, train: Sequence[str], dev: Sequence[str], items: Sequence[str]) -> list[Baseline]:
        """Simple models for comparison at the one look: fitted on train, tuned on dev, evaluated on the items."""
        return []

    def baselines_for(
        self, trained: Trained, train: Sequence[str], dev: Sequence[str], items: Sequence[str]
    ) -> list[Baseline]:
        """The baselines of a trained model: override this where they need what it knows, such as its alphabet.

        All that baselines may use is handed to them: none of the two methods reads the list again.
        """
        return self.baselines(train, dev, items)

    def other_units(self, loss: float) -> dict[str, float]:
        """A loss in other units, by the name of the unit."""
        return {}

    def why_no_look(self, trained: Trained) -> str:
        """Why the test loss of this model might be infinite or NaN; empty if it will be finite."""
        return ""
