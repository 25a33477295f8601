"""What a study taught: which hyperparameters mattered, what the winner gained, where the space was too narrow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeps.search.space import Setting, Space
from sweeps.search.widen import Widening, find_widenings
from sweeps.trials.attributes import WARM_START
from sweeps.trials.standing import Standing

_FEWEST = 8  # complete trials: from fewer, importances are noise
_DRAWS = 40  # bootstrap samples of the trials
_TREES = 16  # for each of them
_LEVEL = 0.95


@dataclass(frozen=True)
class TriedFirst:
    """A setting of the space's warm start that is complete."""

    name: str
    trial: int
    dev_loss: float


@dataclass(frozen=True)
class Importance:
    """A hyperparameter's share of the variance of dev losses, with the ends of its 95 % interval over trials."""

    share: float
    low: float
    high: float
    told: bool  # whether the interval says that it mattered more than the hyperparameters do on average


@dataclass(frozen=True)
class Insight:
    """What a study taught, as of now."""

    winner: int  # the number of the trial that won
    setting: Setting  # the winner's
    complete: int  # trials that the importances are from, with those that were taken over from another study
    importances: Mapping[str, Importance]  # by key, the largest first; empty where trials are too few
    tried_first: list[TriedFirst]
    widenings: list[Widening]  # the ranges that the best trials press against


def find_insight(standing: Standing, space: Space, winner: int, accepts: Callable[[Setting], bool]) -> Insight:
    """What the trials of a study say.

    Args:
        winner: the number of the trial that won.
        accepts: whether a run could have a setting, also one outside the space.
    """
    tried_first = [
        TriedFirst(trial.user_attrs[WARM_START], trial.number, float(trial.values[0]))
        for trial in standing.own
        if trial.state == TrialState.COMPLETE and WARM_START in trial.user_attrs
    ]
    setting = standing.trials[winner].params
    widenings = find_widenings(space, standing.ranking, standing.finished, setting, accepts)
    complete = sum(trial.state == TrialState.COMPLETE for trial in standing.trials)
    return Insight(winner, setting, complete, importances(standing), tried_first, widenings)


def importances(standing: Standing) -> dict[str, Importance]:
    """How much each hyperparameter mattered, the largest share first; empty where trials are too few to tell.

    A share is the mean decrease of impurity in a random forest. Its interval is a percentile bootstrap over trials:
    from few trials, shares change their order from one study to the next.
    """
    complete = [trial for trial in standing.trials if trial.state == TrialState.COMPLETE]
    if len(complete) < _FEWEST or len({trial.value for trial in complete}) == 1:
        return {}
    random = Random(0)
    shares = _shares(complete, seed=0)
    samples = [_shares(random.choices(complete, k=len(complete)), seed) for seed in range(1, _DRAWS + 1)]
    samples = [sample for sample in samples if sample]
    if len(shares) < 2 or not samples:  # a single hyperparameter has all of the variance
        return {}
    found = {}
    for key, share in shares.items():
        drawn = sorted(sample.get(key, 0.0) for sample in samples)  # a sample in which it never varies says 0
        low, high = (drawn[round(end * (len(drawn) - 1))] for end in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
        found[key] = Importance(share, min(low, share), max(high, share), told=low > 1 / len(shares))
    return found


def _shares(trials: Sequence[FrozenTrial], seed: int) -> dict[str, float]:
    # It brings scikit-learn along: a second.
    from optuna.importance import MeanDecreaseImpurityImportanceEvaluator, get_param_importances

    study = optuna.create_study()
    study.add_trials(trials)
    try:
        return get_param_importances(
            study, evaluator=MeanDecreaseImpurityImportanceEvaluator(n_trees=_TREES, seed=seed)
        )
    except (RuntimeError, ValueError):  # the trials have equal values or equal losses
        return {}
