"""Hydra's sweep words (`choice`, `range`, `interval`, ...) as Optuna's distributions, and values as overrides."""

import math
import re
from collections.abc import Iterable
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

from sweeps.config.messages import one_line
from sweeps.errors import RequestError


def parse_overrides(lines: list[str]) -> list[Override]:
    """Overrides as Hydra parses them.

    Raises:
        RequestError: words that are not an override.
    """
    try:
        return OverridesParser.create().parse_overrides(overrides=lines)
    except HydraException as error:
        raise RequestError(one_line(error)) from None


def to_distribution(override: Override) -> BaseDistribution:
    """The distribution that Hydra's Optuna sweeper makes of a sweep override, except that `range(a, b)` excludes b.

    Raises:
        RequestError: words that are not a search space.
    """
    words, line = override.value(), override.input_line
    try:
        if isinstance(words, ChoiceSweep):
            return CategoricalDistribution(distinct(_plain(choice) for choice in words.list))
        if isinstance(words, RangeSweep):
            # In order even where Hydra would shuffle: a resumed study must have the same choices.
            return CategoricalDistribution(distinct(words.range())) if words.shuffle else _range(words)
        if isinstance(words, IntervalSweep):
            return _interval(words)
    except ValueError as error:
        raise RequestError(f"{line} is not a search space: {error}") from None
    raise RequestError(f"{line} cannot be searched; use choice(...), range(...) or interval(...)")


def to_seeds(line: str) -> list[int]:
    """The seeds that an override names: each setting is trained with all of them.

    Raises:
        RequestError: not a list of whole numbers that are at least 0.
    """
    words = parse_overrides([line])[0].value()
    match words:
        case ChoiceSweep():
            seeds = distinct(_plain(choice) for choice in words.list)
        case RangeSweep():
            seeds = distinct(words.range())
        case _:
            seeds = [words]
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise RequestError(f"{line} are no seeds; they must be whole numbers >= 0, as in seed=0,1,2 or study.seeds=3")
    return seeds


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values, of equal ones the first; true is not 1."""
    return list({(isinstance(value, bool), value): value for value in values}.values())


def format_override(key: str, value: Any) -> str:
    """A key and its value as a Hydra override, quoted where Hydra would read something else."""
    if value is None:
        return f"{key}=null"
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    plain = re.compile(r"(?!(null|true|false|nan|inf)$)[a-z_][a-z0-9_./-]*", re.ASCII | re.IGNORECASE)
    if isinstance(value, str) and not plain.fullmatch(value):
        return f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    return f"{key}={value}"


def _plain(choice: Any) -> Any:
    """A choice without the quotes that it was typed in."""
    if isinstance(choice, QuotedString):
        return choice.text
    return None if choice is None else Transformer.encode(choice)


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
