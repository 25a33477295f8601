"""Tasks that take no time to train: a test chooses what happens to a run, and patches nothing.

`--config-dir CONF` finds their files: makemore("sweep", *FAKE, "task=fails", "task.at=1").
"""

import math
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from sweeps import Baseline, Report, Task, Trained

CONF = Path(__file__).parent / "conf"
FAKE = ("--config-dir", str(CONF), "space=none")
_ITEMS = 40
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Instant(Task):
    """Trains at once. The loss of item n is `level` + n / 1000."""

    level: float

    item: ClassVar[str] = "point"

    def read(self) -> Sequence[str]:
        """The numbers from 0 to 39."""
        return [str(number) for number in range(_ITEMS)]

    def build(self) -> nn.Module:
        """One weight, which after training is `level`."""
        return nn.Linear(1, 1, bias=False)

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report `level` once."""
        report(1, self.level)
        return self.trained()

    def trained(self) -> Trained:
        """A module whose weight is `level`."""
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, self.level)
        return Trained(module)

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """One term for each item."""
        level = next(trained.module.parameters()).double().squeeze()
        numbers = torch.tensor([int(item) for item in items], dtype=torch.float64)
        return level + numbers / 1000, torch.ones(len(items), dtype=torch.float64)


def count_call() -> int:
    """How many runs of this folder were trained before this one; processes count together."""
    with Path("calls.txt").open("a+") as file:
        file.write(".")  # one write of one byte, at the end
        file.flush()
        return file.tell() - 1


@dataclass(frozen=True)
class SeesDevice(Instant):
    """Trains for a fifth of a second; a metric is the number of the one CUDA device that it sees."""

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        time.sleep(0.2)
        return Trained(super().train(train, dev, seed, report).module, {"device": int(os.environ[DEVICES])})


DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Fails(Instant):
    """The `at`-th run of the folder, counted from 0, fails; null: every run."""

    at: int | None

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report once, unless it fails before."""
        if count_call() == self.at or self.at is None:
            raise OSError("the disk is full")
        return super().train(train, dev, seed, report)


@dataclass(frozen=True)
class Interrupted(Instant):
    """Somebody presses Ctrl+C in the `at`-th run of the folder, counted from 0."""

    at: int

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report once, unless it is interrupted before."""
        if count_call() == self.at:
            signal.raise_signal(signal.SIGINT)
        return super().train(train, dev, seed, report)


@dataclass(frozen=True)
class Killed(Instant):
    """The process of the `at`-th run of the folder, counted from 0, is killed."""

    at: int

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report once, unless it is killed before."""
        if count_call() == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train(train, dev, seed, report)


@dataclass(frozen=True)
class Slow(Instant):
    """Reports every `seconds`, ten times."""

    seconds: float
    evaluations: ClassVar[int] = 10

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report `level` ten times."""
        for step in range(1, self.evaluations + 1):
            time.sleep(self.seconds)
            report(step, self.level)
        return self.trained()


@dataclass(frozen=True)
class Swallows(Slow):
    """Is interrupted, and catches that, as careless code does."""

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report ten times all the same."""
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        return super().train(train, dev, seed, report)


@dataclass(frozen=True)
class Waits(Instant):
    """Reports once, makes a file `waiting`, and goes on when there is a file `go`."""

    then_diverges: bool

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report `level`, wait, and end or diverge."""
        report(1, self.level)
        Path("waiting").touch()
        deadline = time.monotonic() + _WAIT_SECONDS
        while not Path("go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("there is no file go")
            time.sleep(0.02)
        if self.then_diverges:
            report(2, float("nan"))
        return self.trained()


@dataclass(frozen=True)
class Curve(Instant):
    """Reports the losses of a list, and ends with the lowest."""

    losses_reported: list[float]

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report each loss of the list, above `level`."""
        for step, loss in enumerate(self.losses_reported, start=1):
            report(step, self.level + loss, train_loss=self.level + loss / 2)
        return self.trained()


@dataclass(frozen=True)
class Diverges(Instant):
    """Reports NaN where `level` is above `limit`."""

    limit: float

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report once."""
        report(1, float("nan") if self.level > self.limit else self.level)
        return self.trained()


@dataclass(frozen=True)
class Seeded(Instant):
    """Its loss depends on the seed; it may diverge with one seed, or be killed in the folder's `dies_at`-th run."""

    noise: float
    diverges_with: int | None
    dies_at: int | None
    evaluations: ClassVar[int] = 2

    def read(self) -> Sequence[str]:
        """The numbers from 0 to 119: twelve of them are dev items, enough for an interval."""
        return [str(number) for number in range(120)]

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Report twice; the last dev loss is `level` and at most `noise` more or less."""
        if count_call() == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        level = self.level + self.noise * math.sin(seed)
        for step in (1, 2):
            report(step, math.nan if seed == self.diverges_with else level + 0.1 * (2 - step))
        trained = self.trained()
        nn.init.constant_(next(trained.module.parameters()), level)
        return trained


@dataclass(frozen=True)
class Sized(Instant):
    """As many items as `items` says, and two baselines: one is better by 0.5, one infinitely bad."""

    items: int

    def read(self) -> Sequence[str]:
        """The numbers from 0."""
        return [str(number) for number in range(self.items)]

    def baselines(self, train: Sequence[str], dev: Sequence[str], items: Sequence[str]) -> list[Baseline]:
        """Every item's loss is 0.5 below that of level 1, or infinite."""
        numbers = torch.tensor([int(item) for item in items], dtype=torch.float64)
        return [Baseline("oracle ($5)", 0.5 + numbers / 1000), Baseline("impossible", numbers + math.inf)]


@dataclass(frozen=True)
class Unbounded(Sized):
    """Its losses are finite for all items that training was handed, and for no others."""

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        _handed.update(train, dev)
        return super().train(train, dev, seed, report)

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        losses, terms = super().losses(trained, items)
        return torch.where(torch.tensor([item in _handed for item in items]), losses, math.inf), terms


_handed: set[str] = set()


@dataclass(frozen=True)
class CannotDraw(Instant):
    """Fails when it is asked for its pictures."""

    def draw(self, trained: Trained, curve: Sequence[object], folder: Path) -> None:
        """Write a file, and fail."""
        (folder / "half.txt").touch()
        raise OSError("the disk is full")


@dataclass(frozen=True)
class Houses(Instant):
    """Five items of each of sixty groups; a list of what was read, line by line, is kept where `log` names a file."""

    log: str | None

    item: ClassVar[str] = "flat"

    def read(self) -> Sequence[str]:
        """Three hundred numbers; note that they were read."""
        if self.log is not None:
            with Path(self.log).open("a") as file:
                file.write("read\n")
        return [str(number) for number in range(300)]

    def group(self, item: str) -> str:
        """Five numbers that follow each other are a house."""
        return f"house {int(item) // 5}"
