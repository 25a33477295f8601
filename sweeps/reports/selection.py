"""The winner's dev loss without the luck of having been chosen by it: BBC-CV, which costs no training.

Of many equal settings, the one with the lowest dev loss is the luckiest on the dev items. BBC-CV (Tsamardinos,
Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and accurate
cross-validation") repeats the choice on dev items that are drawn with replacement, and takes the chosen setting's loss
on the items that were not drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from makemore.bootstrap import FEWEST
from makemore.train import generator_for
from sweeps.reports.intervals import LEVEL, Interval
from sweeps.reports.leaderboard import leaderboard
from sweeps.reports.paired import recorded_dev_losses
from sweeps.tracking.queries import RunRecord
from sweeps.tracking.store import TrackingStore

MOST = 200  # trials, the best ones: those far behind are never chosen
_DRAWS = 1000
_NUMBERS = 4_000_000  # of drawn items at a time
_MOST_NUMBERS = 50_000_000  # losses in memory: 400 MB


@dataclass(frozen=True)
class Selection:
    """The dev loss of the search's best trial as it was chosen, and as it is without the luck of that choice."""

    dev_loss: float
    corrected: Interval
    trials: int  # from which it was chosen again and again
    left_out: int  # complete trials beyond those

    def in_words(self) -> str:
        """One line for people."""
        rest = f" (among {self.trials} trials, {self.left_out} worse ones left out)" if self.left_out else ""
        interval = f"[{self.corrected.low:.4f}, {self.corrected.high:.4f}]"
        return f"best dev loss without the luck of the choice: {self.corrected.mean:.4f} {interval}{rest}"


def find_selection(store: TrackingStore, trials: Sequence[RunRecord]) -> Selection | None:
    """The corrected dev loss of the best of some trials; None where there is no choice, or too few items.

    Only recorded losses are read; a trial without them is left out.
    """
    complete = [run for run in leaderboard(trials).runs if run.state == "COMPLETE"]
    best = complete[:MOST]
    losses, terms = recorded_dev_losses(store, best, _MOST_NUMBERS)
    if losses.shape[1] < 2 or len(terms) < FEWEST:
        return None
    dev_loss = float((losses.sum(0) / terms.sum()).min())
    return Selection(dev_loss, correct(losses, terms), losses.shape[1], len(complete) - losses.shape[1])


def correct(losses: Tensor, terms: Tensor, draws: int = _DRAWS) -> Interval:
    """The mean loss per term of a choice among k settings, without the luck of the choice, with a 95 % interval.

    The interval's variance lies halfway between that of a chosen setting's mean over items, and that of the mean of all
    chosen settings, weighted by how often each was chosen. The first is too large where settings differ from item to
    item as much as items do from each other, and the second too small (docs/log.md).

    Args:
        losses: (n, k).
        terms: (n,).
    """
    from scipy.special import stdtrit  # takes long to import

    n, k = losses.shape
    generator = generator_for(0, "selection")
    found, times_chosen = [], torch.zeros(k, dtype=losses.dtype)
    chunk = max(1, _NUMBERS // n)
    for done in range(0, draws, chunk):
        drawn = torch.randint(n, (min(chunk, draws - done), n), generator=generator)
        times = torch.zeros(drawn.shape, dtype=losses.dtype).scatter_add_(1, drawn, losses.new_ones(1).expand_as(drawn))
        chosen = (times @ losses).argmin(1)  # all are divided by the same number of terms
        not_drawn = (times == 0).to(losses.dtype)
        of_chosen = (not_drawn @ losses).gather(1, chosen.unsqueeze(1)).squeeze(1)
        found.append(of_chosen / (not_drawn @ terms))
        times_chosen += torch.bincount(chosen, minlength=k)
    mean, total, shares = float(torch.cat(found).mean()), terms.sum(), times_chosen / draws
    rest = losses - terms.unsqueeze(1) * (losses.sum(0) / total)
    of_each, of_all = (rest.square().sum(0) * shares).sum(), (rest @ shares).square().sum()
    variance = float((of_each + of_all) / 2 / total**2) * n / (n - 1)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)
