"""Intervals for mean losses. The characters of a word are not independent, so whole words are resampled.

Nor are two equal words: `sum_by_unit` makes one row of them, and the words of the docstrings are then distinct.
"""

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

FEWEST = 10  # distinct words: an interval from fewer covers less than it says
_DRAWS, _MOST_DRAWS = 5_000, 20_000  # at a level of 95 %, and at higher ones
_NUMBERS = 4_000_000  # indices drawn at a time: it bounds the memory


def unit_indices(units: Sequence[Hashable]) -> Tensor:
    """The index of each row's unit, in the order in which units first appear; (n,) int64."""
    places: dict[Hashable, int] = {}
    return torch.tensor([places.setdefault(unit, len(places)) for unit in units], dtype=torch.int64)


def sum_by_unit(values: Tensor, units: Tensor) -> Tensor:
    """Sums of the rows of each unit; (n, ...) becomes (distinct units, ...).

    Args:
        units: the index of each row's unit, (n,) int64; see `unit_indices`.
    """
    distinct = int(units.max()) + 1 if len(units) else 0
    return values.new_zeros(distinct, *values.shape[1:]).index_add_(0, units, values)


def intervals(
    losses: Tensor, characters: Tensor, generator: torch.Generator, level: float = 0.95, draws: int | None = None
) -> list[tuple[float, float]]:
    """Bootstrap-t intervals (Efron and Tibshirani 1993, section 12.5) of k mean losses per character, as (low, high).

    What is resampled is how many standard errors a mean lies from the truth: the percentiles of resampled means cover
    too little where words are few or losses are skewed (docs/log.md). All k intervals use the same draws.

    Args:
        losses: each distinct word's loss summed over its characters, or the difference of two models' losses, (n, k).
        characters: the number of characters of each distinct word, (n,).

        draws: how often words are resampled; None: more often where the level is higher.

    Returns:
        NaN for both ends where n is below `FEWEST`.
    """
    n, k = losses.shape
    if n < FEWEST or k == 0:
        return [(math.nan, math.nan)] * k
    if draws is None:
        draws = min(_MOST_DRAWS, round(_DRAWS * 0.05 / (1 - level)))
    total = characters.sum()
    means = losses.sum(0) / total
    rest = losses - means * characters.unsqueeze(1)  # its sum is 0
    unit = characters.unsqueeze(1)
    columns = torch.cat([rest, rest**2, rest * unit, unit, unit**2], dim=1)
    distances = []
    chunk = max(1, _NUMBERS // n)
    for done in range(0, draws, chunk):
        drawn = torch.randint(n, (min(chunk, draws - done), n), generator=generator)
        times = torch.zeros(drawn.shape, dtype=losses.dtype).scatter_add_(1, drawn, losses.new_ones(1).expand_as(drawn))
        sums, squares, products, count, count_squares = torch.split(times @ columns, [k, k, k, 1, 1], dim=1)
        away = sums / count
        # The variance of a ratio of sums, to first order.
        errors = (squares - 2 * away * products + away**2 * count_squares).clamp_(min=0).sqrt() / count
        distances.append(torch.where(errors > 0, away / errors, 0.0))
    tail = (1 - level) / 2
    ends = torch.tensor([1 - tail, tail], dtype=losses.dtype)
    low, high = means - torch.quantile(torch.cat(distances), ends, dim=0) * (rest**2).sum(0).sqrt() / total
    return list(zip(low.tolist(), high.tolist(), strict=True))
