"""Hydra's sweep words as Optuna distributions."""

import math
import re
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.config import one_line
from sweeps.errors import RequestError

Space = dict[str, BaseDistribution]


def read_space(params: dict[str, str], arguments: list[str]) -> tuple[Space, list[str]]:
    """The search space, and the overrides that hold for every trial.

    Args:
        params: key -> sweep words, of the config's space.
        arguments: overrides of the command line; they win: sweep words replace a key's, a value fixes it.

    Raises:
        RequestError: words that are not a search space.
    """
    words = {key: f"{key}={value}" for key, value in params.items()}
    fixed: list[str] = []
    for override in _parse(arguments):
        words.pop(override.key_or_group, None)
        if override.is_sweep_override():
            words[override.key_or_group] = override.input_line or ""
        else:
            fixed.append(override.input_line or "")
    space: Space = {}
    for override in _parse(list(words.values())):
        if override.is_sweep_override():
            space[override.key_or_group] = to_distribution(override)
        else:
            fixed.append(override.input_line or "")
    return space, fixed


def to_distribution(override: Override) -> BaseDistribution:
    """The distribution that Hydra's Optuna sweeper makes of a sweep override, but `range(a, b)` never yields b."""
    value, name = override.value(), override.input_line
    try:
        if isinstance(value, ChoiceSweep):
            choices: list[Any] = [Transformer.encode(choice) for choice in value.list]
            return CategoricalDistribution(choices)
        if isinstance(value, RangeSweep):
            # In order also where Hydra would shuffle: a resumed study must have the same choices.
            return CategoricalDistribution(list(value.range())) if value.shuffle else _range(value)
        if isinstance(value, IntervalSweep):
            return _interval(value)
    except ValueError as error:
        raise RequestError(f"{name} is not a search space: {error}") from None
    raise RequestError(f"{name} cannot be searched; use choice(...), range(...) or interval(...)")


def _range(words: RangeSweep) -> BaseDistribution:
    start, stop, step = words.start, words.stop, words.step
    if start is None or stop is None or not step:
        raise ValueError("range needs a start, a stop and a step that is not 0")
    # Decimals of what was typed: 0.1 + 0.1 + 0.1 must not pass 0.3.
    first, end, stride = (Decimal(str(number)) for number in (start, stop, step))
    count = math.ceil((end - first) / stride)
    if count < 1:
        raise ValueError("the range is empty")
    low, high = sorted((first, first + (count - 1) * stride))
    if any(isinstance(number, float) for number in (start, stop, step)):
        return FloatDistribution(float(low), float(high), step=float(abs(stride)))
    return IntDistribution(int(low), int(high), step=int(abs(stride)))


def _interval(words: IntervalSweep) -> BaseDistribution:
    start, end, log = words.start, words.end, "log" in words.tags
    if start is None or end is None:
        raise ValueError("interval needs a start and an end")
    if isinstance(start, int) and isinstance(end, int):
        return IntDistribution(start, end, log=log)
    return FloatDistribution(float(start), float(end), log=log)


def format_override(key: str, value: Any) -> str:
    """A trial's choice as a Hydra override."""
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    plain = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z_][a-z0-9_./-]*", re.ASCII | re.IGNORECASE)
    if isinstance(value, str) and not plain.fullmatch(value):
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return f"{key}={value}"


def corner_overrides(space: Space) -> list[list[str]]:
    """A few sets of overrides that together take each parameter to its ends and through all its choices."""
    ends = {
        key: list(distribution.choices)
        if isinstance(distribution, CategoricalDistribution)
        else [distribution.low, distribution.high]  # type: ignore[attr-defined]
        for key, distribution in space.items()
    }
    corners = max((len(values) for values in ends.values()), default=0)
    return [
        [format_override(key, values[corner % len(values)]) for key, values in ends.items()]
        for corner in range(corners)
    ]


def read_warm_start(node: Any, space: Space) -> list[dict[str, Any]]:
    """The config's settings to try first that are in the space, each with the keys that the space has.

    Raises:
        RequestError: not a list of settings.
    """
    settings = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    if not isinstance(settings, list) or not all(isinstance(one, dict) for one in settings):
        raise RequestError(f"space.warm_start is {node!r}; it must be a list of settings, as in conf/space/quick.yaml")
    chosen = [{key: value for key, value in one.items() if key in space} for one in settings]
    return [one for one in chosen if one and all(_has(space[key], value) for key, value in one.items())]


def _has(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Every value of each parameter, for a grid search.

    Raises:
        RequestError: a parameter is continuous.
    """
    grid: dict[str, list[Any]] = {}
    for key, distribution in space.items():
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


def _parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides=overrides)
    except HydraException as error:
        raise RequestError(one_line(error)) from None
