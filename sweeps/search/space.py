"""Search spaces: what is searched, on which conditions, within which limits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from makemore.limits import LimitError
from sweeps.errors import RequestError
from sweeps.search.distributions import has_value, in_words, is_finite, only_value, same_value
from sweeps.search.sweep_words import distinct, format_override, parse_overrides, to_distribution, to_seeds

Distributions = dict[str, BaseDistribution]
Setting = dict[str, Any]  # a value for each key that a trial searches
Conditions = dict[str, dict[str, list[Any]]]  # key -> the values of other keys at which it is searched


@dataclass(frozen=True)
class SpaceConfig:
    """A `space` node: what is searched, on which conditions, within which limits, and which settings come first."""

    name: str
    params: dict[str, Any]  # key -> sweep words
    conditions: dict[str, Any]  # key -> {another key: the value, or list of values, at which the first is searched}
    constraints: dict[str, Any]  # {parameters: the most weights that a model may have; null: any number}
    warm_start: list[Any]  # settings that are tried first, each with a name beside its keys
    settings: list[Any]  # for the keys of these settings, nothing else is tried; empty: there is no such list

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
        if self.settings and "seed" in self.settings[0]:
            raise LimitError("settings", self.settings, "without seed: study.seeds=3 trains each with three seeds")
        if both := [key for key in self.params if self.settings and key in self.settings[0]]:
            raise LimitError("settings", self.settings, f"without {both[0]}, which is in space.params")


@dataclass(frozen=True)
class Space:
    """The search space of a study."""

    distributions: Distributions  # a key stands behind those that it depends on
    fixed: list[str]  # overrides that hold for every trial
    conditions: Conditions
    most_parameters: int | None  # the most weights that a trial's model may have; None: any number
    settings: list[Setting]  # the grid combines each of these with all values of the other keys; empty: no such list
    single: list[str] = field(default_factory=list)  # keys that were left with one value: they are among the fixed
    seeds: list[int] = field(default_factory=list)  # the seeds of the sweep words; empty if they name fewer than two

    def is_active(self, key: str, setting: Setting) -> bool:
        """Whether a key is searched, given the values of the keys that stand before it."""
        return all(
            any(same_value(setting.get(other), value) for value in values)
            for other, values in self.conditions.get(key, {}).items()
        )

    @property
    def may_repeat(self) -> bool:
        """Whether a setting can be drawn twice: not if a number is always drawn from an interval."""
        return all(
            is_finite(distribution) or key in self.conditions for key, distribution in self.distributions.items()
        )

    def point(self, setting: Setting) -> frozenset[tuple[str, float]]:
        """What tells a setting from others: equal for values that are the same but for rounding."""
        return frozenset(
            (key, float(f"{self.distributions[key].to_internal_repr(setting[key]):.9g}")) for key in setting
        )

    def has(self, setting: Setting) -> bool:
        """Whether every value of a setting is in the space."""
        return all(key in self.distributions and has_value(self.distributions[key], setting[key]) for key in setting)

    def words(self, key: str) -> str:
        """What a key is searched over, as people write it."""
        return in_words(self.distributions[key])

    def describe(self) -> dict[str, str]:
        """All that tells this space from another, in words."""
        words = {f"space {key}": repr(distribution) for key, distribution in self.distributions.items()}
        words |= {f"space {key} only at": repr(condition) for key, condition in self.conditions.items()}
        words |= {"space settings": repr(self.settings)} if self.settings else {}
        return words | ({"most parameters": str(self.most_parameters)} if self.most_parameters else {})


def read_space(config: SpaceConfig, arguments: list[str], defaults: Callable[[list[str]], Setting]) -> Space:
    """The search space of a config and the command line. A key that is left with one value is fixed, not searched.

    Args:
        arguments: overrides of the command line, which win: sweep words replace those of a key, and a value fixes it.
        defaults: gives the values of all keys under some overrides, for conditions on a key that is not searched.

    Raises:
        RequestError: words that are not a search space, or conditions that nothing can meet.
    """
    words = {key: f"{key}={value}" for key, value in config.params.items()}
    fixed: list[str] = []
    given = parse_overrides(arguments)
    for override in given:
        words.pop(override.key_or_group, None)
        if override.is_sweep_override():
            words[override.key_or_group] = override.input_line or ""
        else:
            fixed.append(override.input_line or "")
    seeds: list[int] = []
    if "seed" in words:
        seeds = to_seeds(words.pop("seed"))
        fixed.append(f"seed={seeds[0]}")
    settings = _without(config.settings, {override.key_or_group for override in given})
    distributions: Distributions = {
        key: CategoricalDistribution(distinct(setting[key] for setting in settings))
        for key in (settings[0] if settings else {})
    }
    for override in parse_overrides(list(words.values())):
        if override.is_sweep_override():
            distributions[override.key_or_group] = to_distribution(override)
        else:
            fixed.append(override.input_line or "")
    conditions = {
        key: {other: values if isinstance(values, list) else [values] for other, values in condition.items()}
        for key, condition in config.conditions.items()
        if key in distributions
    }
    listed = set(settings[0]) if settings else set()
    single = _single(distributions, listed | set(conditions))
    fixed += [format_override(key, only_value(distributions.pop(key))) for key in single]
    distributions, conditions = _resolve(distributions, conditions, defaults(fixed) if conditions else {})
    free = _single(distributions, listed.union(conditions, *conditions.values()))  # no longer bound by a condition
    fixed += [format_override(key, only_value(distributions.pop(key))) for key in free]
    most = config.constraints["parameters"]
    return Space(distributions, fixed, conditions, most, settings, single + free, seeds if len(seeds) > 1 else [])


def _without(settings: list[Setting], keys: set[str]) -> list[Setting]:
    """The settings without some keys; of settings that are then equal, the first."""
    left: list[Setting] = []
    for setting in settings:
        rest = {key: value for key, value in setting.items() if key not in keys}
        if rest and rest not in left:
            left.append(rest)
    return left


def _single(distributions: Distributions, but: set[str]) -> list[str]:
    """The keys that have one value, without the keys `but`."""
    return [key for key, distribution in distributions.items() if distribution.single() and key not in but]


def _resolve(
    distributions: Distributions, conditions: Conditions, defaults: Setting
) -> tuple[Distributions, Conditions]:
    """The keys, each behind those that it depends on, and their conditions less those on fixed keys, decided here."""
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
                needed[other] = [value for value in values if has_value(ordered[other], value)]
            elif other in distributions or defaults.get(other) not in values:
                needed[other] = []  # the other key is never searched, or is fixed at another value
            if other not in distributions and other not in defaults:
                raise RequestError(f"space.conditions.{key} depends on {other}, which is not a key of a run")
        if all(needed.values()):
            ordered[key] = distributions[key]
            remaining |= {key: needed} if needed else {}
    return ordered, remaining


def corners(space: Space) -> list[Setting]:
    """A few settings that together take each parameter to its ends and through all its choices."""
    ends = {
        key: list(distribution.choices)
        if isinstance(distribution, CategoricalDistribution)
        else [distribution.low, distribution.high]  # type: ignore[attr-defined]
        for key, distribution in space.distributions.items()
    }
    count = max([1, len(space.settings), *map(len, ends.values())])
    settings = [{key: values[corner % len(values)] for key, values in ends.items()} for corner in range(count)]
    if space.settings:
        settings = [setting | space.settings[corner % len(space.settings)] for corner, setting in enumerate(settings)]
    for key in space.conditions:  # at each of its ends, while the keys that it depends on have the values it needs
        settings += [{**settings[0], **_needed(space, key), key: value} for value in ends[key]]
    return [only_active(space, setting) for setting in settings]


def _needed(space: Space, key: str) -> Setting:
    needed: Setting = {}
    for other, values in space.conditions.get(key, {}).items():
        needed |= {**_needed(space, other), other: values[0]}
    return needed


def only_active(space: Space, setting: Setting) -> Setting:
    """The part of a setting that the space searches, given the values of its other keys."""
    active: Setting = {}
    for key in space.distributions:
        if key in setting and space.is_active(key, active):
            active[key] = setting[key]
    return active


def read_warm_start(config: SpaceConfig, space: Space) -> list[tuple[str, Setting]]:
    """Names and settings of the config's warm start that are in the space; keys that the space lacks are left out."""
    chosen = []
    for place, given in enumerate(config.warm_start, 1):
        setting = only_active(space, given)
        if setting and space.has(setting):
            chosen.append((str(given.get("name", f"setting {place} of space.warm_start")), setting))
    return chosen
