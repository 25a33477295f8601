"""The learning-rate range test (Smith 2017): train briefly while the rate rises, and watch the loss."""

import math
from dataclasses import dataclass

from makemore.corpus import Corpus
from makemore.limits import check
from makemore.model import ModelConfig
from makemore.optimizer import Optimizer
from makemore.train import TrainConfig, generator_for, minibatches, one_thread

_SMOOTHING = 0.95  # of the exponential mean over steps
_DIVERGED = 1.5  # the test ends when the smoothed loss exceeds its lowest value by this factor
_CHUNK = 10  # steps between two checks of the loss


@dataclass(frozen=True)
class LrRange:
    """Learning rates to try: from `low` to `high`, each a constant factor above the one before, in `steps` steps."""

    low: float
    high: float
    steps: int

    def __post_init__(self) -> None:
        check("low", self.low, low=1e-12)
        check("high", self.high, low=self.low, high=1e6, closed="(]")
        check("steps", self.steps, low=50, high=1_000_000)

    def rates(self) -> list[float]:
        """The learning rate of each step."""
        factor = (self.high / self.low) ** (1 / (self.steps - 1))
        return [self.low * factor**step for step in range(self.steps)]


@dataclass(frozen=True)
class LrRangeResult:
    """The losses of a range test, up to where it diverged, and the rates that it suggests."""

    lr: list[float]
    loss: list[float]  # of each step's minibatch, before it
    smoothed: list[float]
    search_low: float  # the rate where the smoothed loss falls fastest, per factor of the rate
    search_high: float  # the rate where it is lowest
    suggestion: float  # their geometric mean: search_low is too careful for a rate that decays, search_high too bold
    diverged: bool


class NoRange(ArithmeticError):
    """A range test cannot suggest a rate. If the loss did not fall, start at a lower rate or end at a higher one."""


def lr_range_test(
    corpus: Corpus,
    model_config: ModelConfig,
    optimizer: Optimizer,
    config: TrainConfig,
    lr_range: LrRange,
    seed: int,
    device: str = "cpu",
) -> LrRangeResult:
    """Train one model on minibatches of train while the learning rate rises log-uniformly.

    Raises:
        NoRange: the loss did not fall, or the model is counted, so nothing can be suggested.
    """
    if model_config.counted:
        raise NoRange("this model is counted: it has no learning rate")
    model = model_config.new(corpus.alphabet.vocab_size, seed).to(device)
    stepper = model_config.make_step(model, optimizer, config, seed, device)
    batches = generator_for(seed, "batches")
    rates = lr_range.rates()
    losses: list[float] = []
    smoothed: list[float] = []
    mean, diverged = 0.0, False
    with one_thread():
        while len(losses) < len(rates) and not diverged:
            chunk = rates[len(losses) : len(losses) + _CHUNK]
            for x, y in minibatches(corpus, config, len(chunk), batches, device, model_config.every_position):
                for loss in stepper.run(x, y, chunk[: len(x)]).tolist():
                    losses.append(loss)
                    mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
                    smoothed.append(mean / (1 - _SMOOTHING ** len(losses)))  # as Adam corrects its means
                    diverged = diverged or not smoothed[-1] < _DIVERGED * min(smoothed)
    seen = [loss for loss in smoothed if math.isfinite(loss)]
    steepest, lowest = _steepest_and_lowest(rates, seen)
    if steepest >= lowest:
        raise NoRange(f"the loss does not fall between {rates[0]:.2g} and {rates[len(losses) - 1]:.2g}")
    return LrRangeResult(
        lr=rates[: len(losses)],
        loss=losses,
        smoothed=smoothed,
        search_low=steepest,
        search_high=lowest,
        suggestion=math.sqrt(steepest * lowest),
        diverged=diverged,
    )


def _steepest_and_lowest(rates: list[float], smoothed: list[float]) -> tuple[float, float]:
    """The rates at which the loss falls fastest, with the slope taken over a window, and at which it is lowest."""
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    window = max(len(rates) // 40, 1)
    slopes = {at: smoothed[at + window] - smoothed[at - window] for at in range(window, lowest - window)}
    steepest = min(slopes, key=slopes.__getitem__, default=lowest)
    return rates[steepest], rates[lowest]
