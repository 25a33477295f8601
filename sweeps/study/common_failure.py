"""Whether a study's first trials all ended alike: then the others would, too, and are not started."""

import re
from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from sweeps.trials.attributes import INTERRUPTED, REASONS
from sweeps.trials.standing import Standing, needs_retry

_ALIKE = 3  # trials in a row
_ALIKE_SEARCHED = 10  # the same, if the reason names a key that is searched: another value of it may mend this
_NUMBER = re.compile(r"[-+]?(\d[\d.,]*(e[-+]?\d+)?|nan|inf)\b", re.IGNORECASE)


def common_failure(standing: Standing, ended_before: int, searched: Iterable[str]) -> str | None:
    """Why the first trials failed or diverged, if they all did for the same reason and no trial is complete.

    Args:
        ended_before: how many trials had ended before this call: the same command again tries other settings.
        searched: the keys that the study searches.
    """
    if standing.ranking:
        return None
    ended = sorted(filter(_has_ended, standing.own), key=lambda trial: (trial.datetime_complete, trial.number))
    reasons = [_failure(trial) for trial in ended[ended_before:]]
    reason = reasons[0] if reasons else ""
    most = _ALIKE_SEARCHED if any(key in reason for key in searched) else _ALIKE
    alike = {_NUMBER.sub("#", reason) for reason in reasons[:most]}
    return reason if reason and len(reasons) >= most and len(alike) == 1 else None


def count_ended(standing: Standing) -> int:
    """How many trials have ended of themselves, and are not tried again."""
    return sum(map(_has_ended, standing.own))


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state.is_finished() and not needs_retry(trial)


def _failure(trial: FrozenTrial) -> str:
    """Why a trial failed or diverged; empty if its pruner or its worker's death ended it."""
    reason = str(trial.user_attrs.get(REASONS.get(trial.state, ""), ""))
    pruned = trial.state == TrialState.PRUNED and not reason.startswith("Diverged")
    return "" if pruned or reason == INTERRUPTED else reason
