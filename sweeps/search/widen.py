"""Where a space is too narrow: a range that its best trials press against, and the wider range to search next."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from sweeps.search.distributions import edge_of, place_of
from sweeps.search.space import Setting, Space

_FEWEST = 12  # finished trials: fewer say nothing of where the best ones lie
_BEST = 4  # the best trials are a quarter of all
_OUTER = 0.2  # of a range: the part at an end
_MOST_OF = 2 / 3  # of the best trials must lie there


@dataclass(frozen=True)
class Widening:
    """A range to be widened."""

    reason: str  # in words
    override: str  # the key with a wider range, as it is given on the command line


def find_widenings(
    space: Space, ranking: Sequence[FrozenTrial], finished: int, winner: Setting, accepts: Callable[[Setting], bool]
) -> list[Widening]:
    """The ranges to widen, one for each key where the winner and most of the best trials lie at the same end.

    Args:
        ranking: the complete trials, the lowest dev loss first.
        finished: how many trials are complete or pruned; the best are a quarter of them.
        winner: the winner's setting.
        accepts: whether a run could have a setting: no range goes on where the next value is not allowed.
    """
    best = ranking[: finished // _BEST]
    if finished < _FEWEST or len(best) < _FEWEST // _BEST:
        return []
    found = []
    for key, value in winner.items():
        distribution = space.distributions[key]
        end = edge_of(distribution, value)
        values = [trial.params[key] for trial in best if key in trial.params]
        near = [other for other in values if end and _is_near(distribution, other, end)]
        if end is None or len(near) < _MOST_OF * len(best):
            continue
        wider = _widen(distribution, end)
        if wider is not None and accepts({**winner, key: wider[0]}):
            shown = f"{value:.3g}" if isinstance(value, float) else value
            reason = (
                f"{key}={shown} is at the {end} end of its range, as are {len(near)} of the best {len(best)} trials"
            )
            found.append(Widening(reason, f"{key}={wider[1]}"))
    return found


def _is_near(distribution: BaseDistribution, value: Any, end: str) -> bool:
    place = place_of(distribution, value)
    return place is not None and (place <= _OUTER if end == "lower" else place >= 1 - _OUTER)


def _widen(distribution: BaseDistribution, end: str) -> tuple[Any, str] | None:
    """The new end of a range, and the wider range as sweep words; None at 0, where no size or rate goes on."""
    upper = end == "upper"
    match distribution:
        case CategoricalDistribution(choices=choices):
            numbers: list[Any] = sorted(choices)
            new = _next(numbers if upper else numbers[::-1])
            return None if new is None else (new, ",".join(map(str, [*numbers, new] if upper else [new, *numbers])))
        case IntDistribution(low=low, high=high, step=step, log=log):
            new = _beyond(low, high, log, upper)
            new = new if new is None else low + round((new - low) / step) * step
            if new is None or low <= new <= high:
                return None
            low, high = (low, new) if upper else (new, high)
            if step != 1:
                return new, f"range({low},{high + step},{step})"
            return new, f"tag(log,int(interval({low},{high})))" if log else f"int(interval({low},{high}))"
        case FloatDistribution(low=low, high=high, step=step, log=log):
            new = _beyond(low, high, log, upper)
            if new is None:
                return None
            if step is not None:
                new = round(low + round((new - low) / step) * step, 12)
                low, high = (low, new) if upper else (new, high)
                return new, f"range({low:.12g},{high + step:.12g},{step:.12g})"
            new = float(f"{new:.2g}")
            low, high = (low, new) if upper else (new, high)
            return new, f"tag(log,interval({low!r},{high!r}))" if log else f"interval({low!r},{high!r})"
    return None


def _beyond(low: float, high: float, log: bool, upper: bool) -> float | None:
    """The new end of a range that goes on by half its length; a positive one goes on towards 0 by halves."""
    if log:
        factor = math.sqrt(high / low)
        return high * factor if upper else low / factor
    if upper:
        return high + (high - low) / 2
    return None if low <= 0 else max(low - (high - low) / 2, low / 2)


def _next(numbers: Sequence[float]) -> float | None:
    """The number that goes on with a list: by its last ratio where its steps grow, or by its last step."""
    before, last, step = numbers[-3], numbers[-2], numbers[-1] - numbers[-2]
    grows = before > 0 and last > 0 and abs(step) > abs(last - before)
    new = numbers[-1] * numbers[-1] / last if grows or (step < 0 and before > 0) else numbers[-1] + step
    whole = all(isinstance(number, int) for number in numbers)
    new = round(new) if whole else float(f"{new:.6g}")
    return None if new == numbers[-1] or (new <= 0 < numbers[-1]) else new
