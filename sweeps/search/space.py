"""Hydra's sweep words as Optuna distributions."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
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
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from makemore.limits import LimitError
from sweeps.config.messages import one_line
from sweeps.errors import RequestError

Distributions = dict[str, BaseDistribution]
Setting = dict[str, Any]  # a value for each key that a trial searches
Conditions = dict[str, dict[str, list[Any]]]  # key -> the values of other keys at which it is searched

_EDGE = 0.05  # of a range


@dataclass(frozen=True)
class SpaceConfig:
    """A `space` node: what is searched, on which conditions, within which limits, and what is tried first, or only."""

    name: str
    params: dict[str, Any]  # key -> sweep words
    conditions: dict[str, Any]  # key -> {another key: the value, or list of values, at which the first is searched}
    constraints: dict[str, Any]  # parameters: at most so many weights; null: any number
    warm_start: list[Any]  # settings, with a name beside their keys
    settings: list[Any]  # of their keys, these are all that is tried

    def __post_init__(self) -> None:
        if set(self.constraints) != {"parameters"}:
            raise LimitError("constraints", self.constraints, "{parameters: N}, the most weights, or null for N")
        most = self.constraints["parameters"]
        if most is not None and (type(most) is not int or most < 1):
            raise LimitError("constraints.parameters", most, "an integer >= 1, the most weights, or null")
        for key, condition in self.conditions.items():
            if not isinstance(condition, dict) or not condition:
                raise LimitError(f"conditions.{key}", condition, "{key: value} or {key: [values]}")
        if not all(isinstance(setting, dict) for setting in self.warm_start):
            raise LimitError("warm_start", self.warm_start, "a list of settings, as in conf/space/quick.yaml")
        keys = {tuple(sorted(setting)) if isinstance(setting, dict) else () for setting in self.settings}
        if len(keys) > 1 or () in keys:
            wanted = "a list of settings that all give the same keys, as in conf/experiment/lecture_table.yaml"
            raise LimitError("settings", self.settings, wanted)
        if both := [key for key in self.params if self.settings and key in self.settings[0]]:
            raise LimitError("settings", self.settings, f"without {both[0]}, which is in space.params")


@dataclass(frozen=True)
class Space:
    """The search space of a study."""

    distributions: Distributions  # those that others depend on stand first
    fixed: list[str]  # overrides that hold for every trial
    conditions: Conditions
    most_parameters: int | None  # of a trial's model
    settings: list[Setting]  # with all points of the other keys, these are the grid; none: every value of every key

    def is_active(self, key: str, setting: Setting) -> bool:
        """Whether a key is searched, given the values of the keys before it."""
        return all(
            any(_same(setting.get(other), value) for value in values)
            for other, values in self.conditions.get(key, {}).items()
        )

    def has(self, setting: Setting) -> bool:
        """Whether every value of a setting is in the space."""
        return all(key in self.distributions and _has(self.distributions[key], setting[key]) for key in setting)

    def edges(self, setting: Setting) -> list[str]:
        """Of a setting's values those at an end of their range, in words; 0, where a range cannot go on, is none."""
        found = []
        for key, value in setting.items():
            ends = _ends(self.distributions[key])
            if ends is None or value == 0:
                continue
            low, high, log = ends
            place = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
            if not _EDGE < place < 1 - _EDGE:
                shown = f"{value:.3g}" if isinstance(value, float) else value
                found.append(f"{key}={shown} is at the {'lower' if place < 0.5 else 'upper'} end of its range")
        return found

    def words(self, key: str) -> str:
        """What a key is searched over, for people."""
        match self.distributions[key]:
            case CategoricalDistribution(choices=choices):
                return ", ".join(map(str, choices))
            case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
                return f"{low} to {high}" + (", log" if log else "")
        raise TypeError(f"{key} has a distribution of an unknown kind")

    def describe(self) -> dict[str, str]:
        """What makes it this space and no other, in words."""
        words = {f"space {key}": repr(distribution) for key, distribution in self.distributions.items()}
        words |= {f"space {key} only at": repr(condition) for key, condition in self.conditions.items()}
        words |= {"space settings": repr(self.settings)} if self.settings else {}
        return words | ({"most parameters": str(self.most_parameters)} if self.most_parameters else {})


def read_space(config: SpaceConfig, arguments: list[str], defaults: Callable[[list[str]], Setting]) -> Space:
    """The search space of a config and the command line.

    Args:
        arguments: overrides of the command line; they win: sweep words replace a key's, a value fixes it.
        defaults: the values of all keys under given overrides, for conditions on a key that is not searched.

    Raises:
        RequestError: words that are not a search space, or conditions that nothing can meet.
    """
    words = {key: f"{key}={value}" for key, value in config.params.items()}
    fixed: list[str] = []
    given = _parse(arguments)
    for override in given:
        words.pop(override.key_or_group, None)
        if override.is_sweep_override():
            words[override.key_or_group] = override.input_line or ""
        else:
            fixed.append(override.input_line or "")
    settings = _without(config.settings, {override.key_or_group for override in given})
    distributions: Distributions = {
        key: CategoricalDistribution(list(dict.fromkeys(setting[key] for setting in settings)))
        for key in (settings[0] if settings else {})
    }
    for override in _parse(list(words.values())):
        if override.is_sweep_override():
            distributions[override.key_or_group] = to_distribution(override)
        else:
            fixed.append(override.input_line or "")
    conditions = {
        key: {other: values if isinstance(values, list) else [values] for other, values in condition.items()}
        for key, condition in config.conditions.items()
        if key in distributions
    }
    distributions, conditions = _resolve(distributions, conditions, defaults(fixed) if conditions else {})
    return Space(distributions, fixed, conditions, config.constraints["parameters"], settings)


def _without(settings: list[Setting], keys: set[str]) -> list[Setting]:
    """What is left of settings without some keys; of equal ones, the first."""
    left: list[Setting] = []
    for setting in settings:
        rest = {key: value for key, value in setting.items() if key not in keys}
        if rest and rest not in left:
            left.append(rest)
    return left


def _resolve(
    distributions: Distributions, conditions: Conditions, defaults: Setting
) -> tuple[Distributions, Conditions]:
    """Keys in an order in which each stands behind what it depends on; conditions on fixed keys are decided here."""
    ordered: Distributions = {}
    remaining: Conditions = {}
    waiting = list(distributions)
    while waiting:
        key = next((key for key in waiting if not set(conditions.get(key, {})) & set(waiting)), None)
        if key is None:
            raise RequestError(f"space.conditions of {' and '.join(waiting)} depend on each other; one must come first")
        waiting.remove(key)
        needed: dict[str, list[Any]] = {}
        for other, values in conditions.get(key, {}).items():
            if other in ordered:
                needed[other] = [value for value in values if _has(ordered[other], value)]
            elif other in distributions or defaults.get(other) not in values:
                needed[other] = []  # what it depends on is never searched itself, or fixed elsewhere
            if other not in distributions and other not in defaults:
                raise RequestError(f"space.conditions.{key} depends on {other}, which is not a key of a run")
        if all(needed.values()):
            ordered[key] = distributions[key]
            remaining |= {key: needed} if needed else {}
    return ordered, remaining


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


def corners(space: Space) -> list[Setting]:
    """A few settings that together take each parameter to its ends and through all its choices."""
    ends = {
        key: list(distribution.choices)
        if isinstance(distribution, CategoricalDistribution)
        else [distribution.low, distribution.high]  # type: ignore[attr-defined]
        for key, distribution in space.distributions.items()
    }
    count = max([len(space.settings), *map(len, ends.values())])
    settings = [{key: values[corner % len(values)] for key, values in ends.items()} for corner in range(count)]
    if space.settings:
        settings = [one | space.settings[corner % len(space.settings)] for corner, one in enumerate(settings)]
    for key in space.conditions:  # at each of its ends while the keys that it depends on are as it needs them
        settings += [{**settings[0], **_needed(space, key), key: value} for value in ends[key]]
    return [_only_active(space, setting) for setting in settings]


def _needed(space: Space, key: str) -> Setting:
    needed: Setting = {}
    for other, values in space.conditions.get(key, {}).items():
        needed |= {**_needed(space, other), other: values[0]}
    return needed


def _only_active(space: Space, setting: Setting) -> Setting:
    active: Setting = {}
    for key in space.distributions:
        if key in setting and space.is_active(key, active):
            active[key] = setting[key]
    return active


def read_warm_start(config: SpaceConfig, space: Space) -> list[tuple[str, Setting]]:
    """The config's settings to try first that are in the space, with their names and the keys that the space has."""
    chosen = []
    for place, one in enumerate(config.warm_start, 1):
        setting = _only_active(space, one)
        if setting and space.has(setting):
            chosen.append((str(one.get("name", f"setting {place} of space.warm_start")), setting))
    return chosen


def _ends(distribution: BaseDistribution) -> tuple[float, float, bool] | None:
    """The ends of what can be searched further, and whether it is so on a logarithmic scale; None for names."""
    match distribution:
        case CategoricalDistribution(choices=choices) if len(choices) > 2:
            numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
            return (min(numbers), max(numbers), False) if len(numbers) == len(choices) else None
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            return (low, high, log) if low < high else None
    return None


def _same(one: Any, other: Any) -> bool:
    """Equal, also where a step's multiple is not the decimal that was typed."""
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def _has(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Every value of each parameter that the space's settings do not give, for a grid search.

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


def _parse(overrides: list[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides=overrides)
    except HydraException as error:
        raise RequestError(one_line(error)) from None
