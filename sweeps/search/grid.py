"""The grid of a search space: every combination of its values."""

import itertools
import math
import random
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.errors import RequestError
from sweeps.search.space import Setting, Space

_MOST_POINTS = 10_000


def points_of(space: Space, seed: int) -> list[Setting]:
    """Every point of a space's grid, in an order that the seed decides: a part of them is a sample of all.

    Raises:
        RequestError: too many points, or a space that has no grid.
    """
    grid, settings = grid_of(space), space.settings or [{}]
    count = len(settings) * math.prod(len(values) for values in grid.values())
    if count > _MOST_POINTS:
        raise RequestError(
            f"sampler=grid has {count} points; it may have {_MOST_POINTS}: use sampler=qmc, or fewer values"
        )
    rows = list(itertools.product(*grid.values()))
    points = [setting | dict(zip(grid, values, strict=True)) for setting in settings for values in rows]
    random.Random(seed).shuffle(points)
    return points


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Every value of each parameter that the space's settings do not give.

    Raises:
        RequestError: a parameter is continuous, or not every point of the grid is in the space.
    """
    if space.conditions or space.most_parameters:
        what = "conditions" if space.conditions else "constraints.parameters"
        raise RequestError(f"sampler=grid tries every point, but space.{what} leaves some out; use another sampler")
    grid: dict[str, list[Any]] = {}
    for key, distribution in space.distributions.items():
        if space.settings and key in space.settings[0]:
            continue
        if isinstance(distribution, CategoricalDistribution):
            grid[key] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution) and not distribution.log:
            grid[key] = list(range(distribution.low, distribution.high + 1, distribution.step))
        elif isinstance(distribution, FloatDistribution) and distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            grid[key] = [distribution.low + position * distribution.step for position in range(count)]
        else:
            raise RequestError(f"{key} is searched over an interval; sampler=grid needs choice(...) or range(...)")
    return grid
