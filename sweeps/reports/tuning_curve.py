"""The tuning curve of a random search: what the best dev loss is likely to be after one trial, two trials and so on.

The curve is the median of the best of k trials, because a mean does not exist where a trial may diverge. The band
around it is exact for any distribution of dev losses and holds for all k together; see Lourie, Cho and He 2023, "Show
your work with confidence" (arXiv 2311.09480). It needs trials that were drawn independently: only random search gives
these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from sweeps.reports.intervals import LEVEL
from sweeps.trials.attributes import REASONS, WARM_START

FEWEST = 10  # trials: the band of fewer says nothing
_DRAWS = 4000  # simulated searches, from which the width of the band is found
_INDEPENDENT = "random/none"  # the sampler and the pruner that leave trials independent of each other


@dataclass(frozen=True)
class TuningCurve:
    """The best dev loss of k trials, for k = 1, 2, ...; an end that the trials do not bound is infinite."""

    median: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def independent_losses(trials: Sequence[FrozenTrial], searched_with: Sequence[str]) -> list[float] | None:
    """The dev losses of a random search, infinite for trials that failed; None where trials are not independent.

    Args:
        trials: the study's own.
        searched_with: the samplers and pruners of its sweeps, as "random/none".
    """
    if set(searched_with) != {_INDEPENDENT}:
        return None
    drawn = [trial for trial in trials if WARM_START not in trial.user_attrs]
    losses = [trial.values[0] for trial in drawn if trial.state == TrialState.COMPLETE and trial.values]
    failed = sum(trial.state == TrialState.FAIL and REASONS[TrialState.FAIL] in trial.user_attrs for trial in drawn)
    return losses + [math.inf] * failed if len(losses) + failed >= FEWEST else None


def tuning_curve(losses: Sequence[float], level: float = LEVEL) -> TuningCurve:
    """The tuning curve of independent trials, as far as there are trials, with its band."""
    from scipy.stats import binom  # takes long to import

    ordered, n = np.sort(np.asarray(losses, dtype=float)), len(losses)
    # The best of k trials is below this quantile of a single trial's loss in half of all searches.
    shares = 1 - 0.5 ** (1 / np.arange(1, n + 1))
    tail = _tail(n, shares, level)
    padded = np.concatenate([[-math.inf], ordered, [math.inf]])
    low = padded[binom.ppf(tail, n, shares).astype(int)]
    high = padded[binom.isf(tail, n, shares).astype(int) + 1]
    return TuningCurve(ordered[np.ceil(shares * n).astype(int) - 1].tolist(), low.tolist(), high.tolist())


def _tail(n: int, shares: Any, level: float) -> float:
    """The probability to leave out on each side of each quantile so that all intervals hold together.

    How many of n trials lie below a quantile does not depend on the losses' distribution, so it can be simulated.
    """
    from scipy.stats import binom

    draws = np.sort(np.random.default_rng(0).random((_DRAWS, n)), axis=1)
    below = np.stack([np.searchsorted(row, shares) for row in draws])
    tails = np.minimum(binom.cdf(below, n, shares), binom.sf(below - 1, n, shares))
    return float(np.quantile(tails.min(axis=1), 1 - level, method="lower"))
