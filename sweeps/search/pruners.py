"""Which trials stop early: Optuna's pruners, from the config."""

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.pruners import BasePruner, NopPruner

from sweeps.search.instantiate import make_checked
from sweeps.search.samplers import AUTO


def make_pruner(cfg: DictConfig, in_full: bool) -> BasePruner:
    """The pruner of the config's `pruner` node; none where a run is evaluated once, at its end.

    Args:
        in_full: whether every setting of the space is tried; then none is pruned, unless a pruner was chosen.

    Raises:
        RequestError: arguments that the pruner does not take.
    """

    def make() -> BasePruner:
        if cfg.train.evaluations == 1 or (in_full and cfg.hydra.runtime.choices["pruner"] == AUTO):
            return NopPruner()
        pruner: BasePruner = instantiate(cfg.pruner)
        trial = optuna.create_study(pruner=pruner).ask()  # some pruners check their arguments only when they are used
        trial.report(0.0, 1)
        trial.should_prune()
        return pruner

    return make_checked("pruner", make)
