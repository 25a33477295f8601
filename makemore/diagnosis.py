"""What the lectures teach to see in a run by eye, in words and with the numbers behind them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from makemore.corpus import Corpus
from makemore.evaluate import device_of
from makemore.model import ModelConfig
from makemore.train import Evaluation

_EXAMINED = 500  # contexts of dev whose hidden layer is looked at


@dataclass(frozen=True)
class Signs:
    """What a trained model shows besides its curve; losses in nats per character, with the kept weights."""

    train_loss: float  # on as many examples of train as dev has
    dev_loss: float
    saturated: float  # share of the hidden layer's values beyond 0.99, where no gradient passes
    guessing: float  # the loss of the uniform distribution
    overfitting_cure: str = ModelConfig.overfitting_cure  # what to try, in words that name the model's own keys
    underfitting_cure: str = ModelConfig.underfitting_cure

    @property
    def gap(self) -> float:
        """The dev loss minus the train loss."""
        return self.dev_loss - self.train_loss


@dataclass(frozen=True)
class Finding:
    """One observation: its name, and a sentence that says what to try."""

    name: str
    text: str


def examine(config: ModelConfig, model: nn.Module, corpus: Corpus, dev_loss: float) -> Signs:
    """The signs that a trained model shows; takes about as long as two evaluations of dev."""
    x = corpus.dev_contexts.x
    x = x[:: max(1, len(x) // _EXAMINED)].long().to(device_of(model))
    return Signs(
        train_loss=config.mean_loss(model, corpus.train_sample),
        dev_loss=dev_loss,
        saturated=config.saturated(model, x),
        guessing=math.log(corpus.alphabet.vocab_size),
        overfitting_cure=config.overfitting_cure,
        underfitting_cure=config.underfitting_cure,
    )


def diagnose(curve: Sequence[Evaluation], signs: Signs) -> list[Finding]:
    """What stands out in a finished run; empty if nothing does.

    The limits are relative, so that they hold for any list of words. They were chosen by eye on some dozens of runs
    with two lists (docs/log.md).
    """
    findings = [_worse_than_guessing(signs), _scattered(curve), _saturated(signs)]
    findings += [_overfitting(curve, signs) or _noisy(curve) or _unfinished(curve, signs) or _underfitting(signs)]
    return [finding for finding in findings if finding]


def _worse_than_guessing(signs: Signs) -> Finding | None:
    if signs.dev_loss < signs.guessing + 1e-6:
        return None
    return Finding(
        "worse than guessing",
        f"dev {signs.dev_loss:.3f} is above the {signs.guessing:.3f} of equally likely characters: far fewer "
        "train.steps, a smaller model, or more words",
    )


def _scattered(curve: Sequence[Evaluation]) -> Finding | None:
    last = curve[-1]
    if last.train_sd < 0.2 * last.train_loss:
        return None
    return Finding(
        "batch too small",
        f"a minibatch's loss scatters by {last.train_sd:.2f} around {last.train_loss:.2f}, so each step is mostly "
        "noise: a larger train.batch_size",
    )


def _saturated(signs: Signs) -> Finding | None:
    if signs.saturated < 0.5:
        return None
    return Finding(
        "saturated",
        f"{signs.saturated:.0%} of the tanh layer's values are beyond 0.99, where no gradient passes: a smaller "
        "schedule.lr or more optimizer.weight_decay",
    )


def _overfitting(curve: Sequence[Evaluation], signs: Signs) -> Finding | None:
    best, last = min(curve, key=lambda point: point.dev_loss), curve[-1]
    rise = last.dev_loss - best.dev_loss
    figures = f"dev {signs.dev_loss:.3f} against train {signs.train_loss:.3f}"
    if rise > 0.01 * signs.dev_loss and best.train_loss - last.train_loss > rise / 2:
        when = f"step {best.step}" + (", the first evaluation," if best is curve[0] else "")
        return Finding(
            "overfitting",
            f"the dev loss rose by {rise:.3f} after {when} while train's went on falling ({figures} where it was "
            f"best): fewer train.steps, {signs.overfitting_cure}",
        )
    if signs.gap > 0.08 * signs.dev_loss:
        return Finding("overfitting", f"{figures}, a gap of {signs.gap:.3f}: {signs.overfitting_cure}")
    return None


def _noisy(curve: Sequence[Evaluation]) -> Finding | None:
    rises = [after.dev_loss - before.dev_loss for before, after in pairwise(curve)]
    rises = [rise for rise in rises if rise > 0]
    if sum(rises) < 0.01 * curve[-1].dev_loss:
        return None
    return Finding(
        "learning rate too high",
        f"the dev loss went up {len(rises)} times, by {sum(rises):.3f} in all: a smaller schedule.lr, or "
        "a schedule that decays",
    )


def _unfinished(curve: Sequence[Evaluation], signs: Signs) -> Finding | None:
    half, last = curve[(len(curve) - 1) // 2], curve[-1]
    fall = half.dev_loss - last.dev_loss
    decays = last.lr is not None and half.lr is not None and last.lr < 0.9 * half.lr
    falls_faster = decays and _per_rate(curve, 0.7, 1.0) > 1.3 * _per_rate(curve, 0.4, 0.7) > 0
    if falls_faster and fall > 0.02 * last.dev_loss and signs.gap < 0.03 * signs.dev_loss:
        return Finding(
            "learning rate too high",
            f"the dev loss fell by {fall:.3f} in the second half, faster the smaller the rate became: a smaller "
            "schedule.lr",
        )
    if fall < 0.01 * last.dev_loss or signs.gap > 0.015 * signs.dev_loss:
        return None
    return Finding(
        "learning rate too low",
        f"the dev loss was still falling, by {fall:.3f} in the second half, and train ({signs.train_loss:.3f}) is "
        f"close to dev ({signs.dev_loss:.3f}): a larger schedule.lr, or more train.steps",
    )


def _per_rate(curve: Sequence[Evaluation], start: float, stop: float) -> float:
    """How far the dev loss fell between two points of the run, per unit of learning rate summed over its steps."""
    points = list(curve[round(start * len(curve)) - 1 : round(stop * len(curve))]) if len(curve) >= 10 else []
    spent = sum(
        ((before.lr or 0.0) + (after.lr or 0.0)) / 2 * (after.step - before.step) for before, after in pairwise(points)
    )
    return (points[0].dev_loss - points[-1].dev_loss) / spent if spent else 0.0


def _underfitting(signs: Signs) -> Finding | None:
    if signs.gap > 0.015 * signs.dev_loss:
        return None
    return Finding(
        "underfitting",
        f"train ({signs.train_loss:.3f}) and dev ({signs.dev_loss:.3f}) are nearly equal: {signs.underfitting_cure}",
    )
