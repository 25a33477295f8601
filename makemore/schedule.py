"""Learning-rate schedules: pure functions of the step.

Points in a run are given as fractions of its length, so a schedule keeps its shape when `steps` changes.
"""

import math
from dataclasses import dataclass

from makemore.limits import check


@dataclass(frozen=True)
class Constant:
    """The same learning rate at every step."""

    lr: float

    def __post_init__(self) -> None:
        check("lr", self.lr, low=0, closed="(]")

    def at(self, progress: float) -> float:
        """Learning rate at a fraction of the run in [0, 1)."""
        return self.lr


@dataclass(frozen=True)
class Step:
    """The lecture's schedule: `lr`, and from the fraction `decay_at` of the run on `lr * decay_factor`."""

    lr: float
    decay_at: float
    decay_factor: float

    def __post_init__(self) -> None:
        check("lr", self.lr, low=0, closed="(]")
        check("decay_at", self.decay_at, low=0, high=1, closed="(]")
        check("decay_factor", self.decay_factor, low=0, high=1, closed="(]")

    def at(self, progress: float) -> float:
        """Learning rate at a fraction of the run in [0, 1)."""
        return self.lr if progress < self.decay_at else self.lr * self.decay_factor


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up to `lr`, then half a cosine down to `lr * final_factor` (Loshchilov and Hutter 2017)."""

    lr: float
    warmup: float
    final_factor: float

    def __post_init__(self) -> None:
        check("lr", self.lr, low=0, closed="(]")
        check("warmup", self.warmup, low=0, high=1, closed="[)")
        check("final_factor", self.final_factor, low=0, high=1)

    def at(self, progress: float) -> float:
        """Learning rate at a fraction of the run in [0, 1)."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        down = _half_cosine((progress - self.warmup) / (1 - self.warmup))
        return self.lr * (self.final_factor + (1 - self.final_factor) * down)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine up from `lr * initial_factor` to `lr`, then one down to `lr * final_factor` (Smith 2018)."""

    lr: float
    warmup: float
    initial_factor: float
    final_factor: float

    def __post_init__(self) -> None:
        check("lr", self.lr, low=0, closed="(]")
        check("warmup", self.warmup, low=0, high=1, closed="()")
        check("initial_factor", self.initial_factor, low=0, high=1)
        check("final_factor", self.final_factor, low=0, high=1)

    def at(self, progress: float) -> float:
        """Learning rate at a fraction of the run in [0, 1)."""
        if progress < self.warmup:
            up = 1 - _half_cosine(progress / self.warmup)
            return self.lr * (self.initial_factor + (1 - self.initial_factor) * up)
        down = _half_cosine((progress - self.warmup) / (1 - self.warmup))
        return self.lr * (self.final_factor + (1 - self.final_factor) * down)


Schedule = Constant | Step | Cosine | OneCycle
SCHEDULES: dict[str, type[Schedule]] = {"constant": Constant, "step": Step, "cosine": Cosine, "one_cycle": OneCycle}


def learning_rates(schedule: Schedule, steps: int) -> list[float]:
    """The learning rate of each of `steps` steps.

    Each step takes the rate at the middle of its share of the run, so neither a warm-up nor a decay to zero wastes a
    step on lr = 0.
    """
    return [schedule.at((step + 0.5) / steps) for step in range(steps)]


def _half_cosine(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
