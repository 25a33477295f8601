"""How a study's winner is chosen; nothing else chooses it.

The search ranks its complete trials by dev loss. The best of many noisy trials looks better than it is, so a study may
confirm: it trains its best settings again with fresh seeds, and the setting with the lowest mean over those seeds wins.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended, whatever recorded it."""

    number: int  # for a run that confirms a trial, the number of that trial
    state: str  # in Optuna's words: COMPLETE, PRUNED, FAIL, RUNNING or WAITING
    dev_loss: float  # NaN unless the trial is complete


@dataclass(frozen=True)
class Confirmation:
    """What fresh seeds say about a trial; losses in nats per character."""

    trial: int
    dev_loss: float  # with the search's own seed
    mean: float  # over the fresh seeds; infinite if a run diverged
    sd: float  # over the fresh seeds; NaN for one seed, or if a run diverged

    @property
    def too_good(self) -> float:
        """By how much the search's dev loss flatters the trial."""
        return self.mean - self.dev_loss


def rank(trials: Iterable[TrialResult]) -> list[TrialResult]:
    """Complete trials, the lowest dev loss first; among equal ones, the first trial."""
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    return sorted(complete, key=lambda trial: (nan_last(trial.dev_loss), trial.number))


def summarize_confirmations(
    trials: Iterable[TrialResult], confirming: Sequence[TrialResult], top: int, seeds: int
) -> list[Confirmation]:
    """What fresh seeds say about the best trials, the lowest mean first; among equal ones, the first trial.

    Empty unless each of the best trials has all of its confirming runs.

    Args:
        trials: the search's.
        confirming: the runs that confirm; a run that was pruned diverged, since nothing else prunes it.
        top: how many of the best trials are confirmed.
        seeds: with how many runs each.
    """
    confirmations = []
    for trial in rank(trials)[:top]:
        runs = [run for run in confirming if run.number == trial.number and run.state in ("COMPLETE", "PRUNED")]
        if len(runs) < seeds:
            return []
        losses = [math.inf if run.state == "PRUNED" else run.dev_loss for run in runs]
        mean = statistics.fmean(losses)
        sd = statistics.stdev(losses) if len(losses) > 1 and math.isfinite(mean) else math.nan
        confirmations.append(Confirmation(trial.number, trial.dev_loss, mean, sd))
    return sorted(confirmations, key=lambda confirmation: (nan_last(confirmation.mean), confirmation.trial))


def choose_winner(trials: Iterable[TrialResult], confirmations: Sequence[Confirmation]) -> TrialResult | None:
    """The trial with the lowest mean over fresh seeds or, without confirmations, with the lowest dev loss.

    None if no trial is complete.
    """
    ranking = rank(trials)
    if confirmations:
        ranking = [trial for trial in ranking if trial.number == confirmations[0].trial]
    return ranking[0] if ranking else None


def nan_last(value: float) -> tuple[bool, float]:
    """A key that sorts numbers in ascending order, and NaN behind all of them."""
    return (True, 0.0) if math.isnan(value) else (False, value)
