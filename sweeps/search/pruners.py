"""Which trials stop early: Optuna's pruners, from the config."""

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.pruners import BasePruner, NopPruner

from sweeps.search.instantiate import make_checked


def make_pruner(cfg: DictConfig) -> BasePruner:
    """The pruner of the config's `pruner` node; none where a run is evaluated once, at its end.

    Raises:
        RequestError: arguments that the pruner does not take.
    """

    def make() -> BasePruner:
        if cfg.train.evaluations == 1:
            return NopPruner()
        pruner: BasePruner = instantiate(cfg.pruner)
        trial = optuna.create_study(pruner=pruner).ask()  # some pruners check their arguments only when they are used
        trial.report(0.0, 1)
        trial.should_prune()
        return pruner

    return make_checked("pruner", make)
