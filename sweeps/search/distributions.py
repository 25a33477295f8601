"""What a search space asks of Optuna's distributions."""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

_EDGE = 0.05  # of a range: a value this near to an end counts as being at it


def has_value(distribution: BaseDistribution, value: Any) -> bool:
    """Whether the distribution can give a value."""
    try:
        number = distribution.to_internal_repr(value)
    except ValueError:  # not among the choices, or not a number
        return False
    match distribution:
        case CategoricalDistribution():
            return True
        case IntDistribution(low=low, high=high, step=step) | FloatDistribution(low=low, high=high, step=step):
            steps = 0.0 if step is None else (number - low) / step
            return low <= number <= high and math.isclose(steps, round(steps), abs_tol=1e-8)
    raise TypeError(f"{distribution} is of an unknown kind")


def same_value(value: Any, other: Any) -> bool:
    """Whether two values are equal, or a multiple of a step is the decimal that was typed."""
    if isinstance(value, float) and isinstance(other, int | float):
        return math.isclose(value, other, rel_tol=1e-9)
    return bool(value == other)


def is_finite(distribution: BaseDistribution) -> bool:
    """Whether there are finitely many values."""
    return not isinstance(distribution, FloatDistribution) or distribution.step is not None


def only_value(distribution: BaseDistribution) -> Any:
    """The value of a distribution that has a single one."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[0]
        case IntDistribution(low=low) | FloatDistribution(low=low):
            return low
    raise TypeError(f"{distribution} is of an unknown kind")


def in_words(distribution: BaseDistribution) -> str:
    """What is searched, as people write it."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return ", ".join("null" if choice is None else str(choice) for choice in choices)
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            return f"{low} to {high}" + (", log" if log else "")
    raise TypeError(f"{distribution} is of an unknown kind")


def edge_of(distribution: BaseDistribution, value: Any) -> str | None:
    """The end, "lower" or "upper", of a range that a value is at; None at neither, or where there is no range.

    At 0 a range cannot go on, so 0 is at no end.
    """
    place = place_of(distribution, value)
    if place is None or value == 0 or _EDGE < place < 1 - _EDGE:
        return None
    return "lower" if place < 0.5 else "upper"


def place_of(distribution: BaseDistribution, value: Any) -> float | None:
    """Where a value lies in its range, from 0 to 1, on the scale that is searched; None where there is no range."""
    ends = _ends(distribution)
    if ends is None:
        return None
    low, high, log = ends
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)


def _ends(distribution: BaseDistribution) -> tuple[float, float, bool] | None:
    """The ends of a range, and whether it is searched on a logarithmic scale; None for names, and for one value."""
    match distribution:
        case CategoricalDistribution(choices=choices) if len(choices) > 2:
            numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
            if len(numbers) < len(choices) or min(numbers) == max(numbers):  # an old study may have equal choices
                return None
            return (min(numbers), max(numbers), False)
        case IntDistribution(low=low, high=high, log=log) | FloatDistribution(low=low, high=high, log=log):
            return (low, high, log) if low < high else None
    return None
