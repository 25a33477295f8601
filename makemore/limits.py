"""Range checks whose messages name the key, the value and the limit."""

import math


class LimitError(ValueError):
    """A hyperparameter is out of range; `key` is its name within its group."""

    def __init__(self, key: str, value: object, limit: str) -> None:
        super().__init__(f"{key} is {value}; it must be {limit}")
        self.key, self.value, self.limit = key, value, limit


def check(key: str, value: float, *, low: float, high: float = math.inf, closed: str = "[]") -> None:
    """Raise LimitError unless `value` is finite and in the interval low..high.

    `closed` is written as in mathematics: "[)" includes low and excludes high. NaN is in no interval.
    """
    above = value >= low if closed[0] == "[" else value > low
    below = value <= high if closed[1] == "]" else value < high
    if above and below and math.isfinite(value):
        return
    lower = f"{'>=' if closed[0] == '[' else '>'} {low:g}"
    upper = f" and {'<=' if closed[1] == ']' else '<'} {high:g}" if math.isfinite(high) else " and finite"
    raise LimitError(key, value, lower + upper)
