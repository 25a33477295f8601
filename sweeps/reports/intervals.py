"""Mean losses with 95 % intervals: over items for given weights, or over seeds and items together.

Everywhere here an item stands for a unit: equal items, or those of one group, are summed into one row before, because
they tell nothing new about each other.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from makemore.bootstrap import FEWEST, intervals
from makemore.train import generator_for

LEVEL = 0.95
FEW = 50  # distinct items: below this, an interval is a rough one


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval, in the task's unit; NaN where there is none."""

    mean: float
    low: float
    high: float


def means(losses: Tensor, terms: Tensor, level: float = LEVEL) -> list[Interval]:
    """The mean per term of each column of losses by item, (n, k), with its interval over items."""
    bounds = intervals(losses, terms, generator_for(0, "intervals"), level)  # equal losses have equal intervals
    averages = (losses.sum(0) / terms.sum()).tolist()
    return [Interval(mean, low, high) for mean, (low, high) in zip(averages, bounds, strict=True)]


def mean_over_seeds(losses: Tensor, terms: Tensor, baseline: Tensor | None = None, level: float = LEVEL) -> Interval:
    """A setting's mean loss per term, or its difference from a baseline's, with an interval over seeds and items.

    The variance is that over items, paired, plus that between the seeds of either setting (Bouthillier et al. 2021,
    arXiv 2103.03098), with degrees of freedom as Welch and Satterthwaite count them. There is no interval for a single
    seed or for few items.

    Args:
        losses: (seeds, n).
        terms: (n,).
        baseline: (seeds, n).
    """
    from scipy.special import stdtrit  # takes long to import

    settings = [losses] if baseline is None else [losses, baseline]
    total, n = terms.sum(), len(terms)
    of_items = losses.mean(0) - (0 if baseline is None else baseline.mean(0))
    mean = float(of_items.sum() / total)
    if min(map(len, settings)) < 2 or n < FEWEST:
        return Interval(mean, math.nan, math.nan)
    over_items = float(((of_items - mean * terms) ** 2).sum() / total**2) * n / (n - 1)  # of a ratio, to first order
    parts = [(over_items, n - 1)]
    parts += [(float((seeds.sum(1) / total).var() / len(seeds)), len(seeds) - 1) for seeds in settings]
    variance = sum(part for part, _ in parts)
    if not variance:
        return Interval(mean, mean, mean)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def bonferroni(count: int) -> float:
    """The level of each of so many intervals that all of them together are right in 95 of 100 cases."""
    return 1 - (1 - LEVEL) / max(1, count)
