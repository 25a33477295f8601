"""What a study taught: which hyperparameters mattered, what the winner gained, where the space was too narrow."""

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from sweeps.search.space import Setting, Space
from sweeps.trials.attributes import WARM_START
from sweeps.trials.standing import Standing

_FEWEST = 8  # complete trials: from fewer, importances are noise


@dataclass(frozen=True)
class TriedFirst:
    """A setting of the space's warm start that is complete."""

    name: str
    trial: int
    dev_loss: float


@dataclass(frozen=True)
class Insight:
    """What a study taught, as of now."""

    winner: int  # the number of the trial that won
    setting: Setting  # the winner's
    importances: Mapping[str, float]  # key -> its share of the variance of dev losses, the largest first; or empty
    tried_first: list[TriedFirst]
    edges: list[str]  # the winner's values that lie at an end of their range, in words


def find_insight(study: optuna.Study, standing: Standing, space: Space, winner: int) -> Insight:
    """What the trials of a study say; `winner` is the number of the trial that won."""
    tried_first = [
        TriedFirst(trial.user_attrs[WARM_START], trial.number, float(trial.values[0]))
        for trial in standing.trials
        if trial.state == TrialState.COMPLETE and WARM_START in trial.user_attrs
    ]
    setting = standing.trials[winner].params
    return Insight(winner, setting, importances(study, standing), tried_first, space.edges(setting))


def importances(study: optuna.Study, standing: Standing) -> dict[str, float]:
    """Each hyperparameter's share of the variance of dev losses, the largest first; empty where trials are too few."""
    if standing.count(TrialState.COMPLETE) < _FEWEST:
        return {}
    from optuna.importance import get_param_importances  # brings scikit-learn along: a second

    try:
        return get_param_importances(study)
    except (RuntimeError, ValueError):  # the trials have equal values or equal losses
        return {}
