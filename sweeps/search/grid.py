"""The grid of a search space: every setting that it has."""

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.errors import RequestError
from sweeps.search.distributions import is_finite
from sweeps.search.space import Setting, Space, only_active

_MOST_POINTS = 10_000


def points_of(space: Space, seed: int, allows: Callable[[Setting], bool] = lambda setting: True) -> list[Setting]:
    """Every setting of a space once, in an order that the seed decides: a part of them is a sample of all.

    Args:
        allows: whether a setting is within the space's constraints.

    Raises:
        RequestError: too many settings, or a parameter that is searched over an interval.
    """
    for key, distribution in space.distributions.items():
        if not is_finite(distribution):
            raise RequestError(f"{key} is searched over an interval; sampler=grid needs choice(...) or range(...)")
    count = _combinations(space)
    if count > _MOST_POINTS:
        raise RequestError(
            f"sampler=grid has {count} points; it may have {_MOST_POINTS}: use sampler=qmc, or fewer values"
        )
    grid = grid_of(space)
    rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    combined = [only_active(space, given | row) for given in space.settings or [{}] for row in rows]
    points = [point for point in {space.point(setting): setting for setting in combined}.values() if allows(point)]
    random.Random(seed).shuffle(points)
    return points


def is_small(space: Space, most: int) -> bool:
    """Whether a space certainly has no more settings than `most`, and few enough for a grid."""
    finite = all(is_finite(distribution) for distribution in space.distributions.values())
    return finite and _combinations(space) <= min(most, _MOST_POINTS)


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Every value of each parameter that the space's settings do not give, where all have finitely many."""
    return {key: _values(distribution) for key, distribution in _free(space).items()}


def _free(space: Space) -> dict[str, BaseDistribution]:
    listed = space.settings[0] if space.settings else {}
    return {key: distribution for key, distribution in space.distributions.items() if key not in listed}


def _combinations(space: Space) -> int:
    """How many settings there are, or more where conditions make some of them equal."""
    return max(1, len(space.settings)) * math.prod(_count(distribution) for distribution in _free(space).values())


def _count(distribution: BaseDistribution) -> int:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return len(choices)
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=float(step)):
            return round((high - low) / step) + 1
    raise TypeError(f"{distribution} has no finite number of values")


def _values(distribution: BaseDistribution) -> list[Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return list(choices)
        case IntDistribution(low=low, step=step) | FloatDistribution(low=low, step=float(step)):
            return [low + position * step for position in range(_count(distribution))]
    raise TypeError(f"{distribution} has no finite number of values")
