"""How a study chooses its next trial and which trials stop early: Optuna's samplers and pruners, from the config."""

import hashlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import optuna
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.config import one_line
from sweeps.errors import RequestError
from sweeps.space import Space, grid_of

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of features that conf/sampler chooses knowingly


def make_sampler(cfg: DictConfig, space: Space, seed: int) -> "PerTrialSeed":
    """The sampler of the config's `sampler` node.

    Raises:
        RequestError: arguments that the sampler does not take, or a grid of something continuous.
    """
    with_seed = _build("sampler", lambda: instantiate(cfg.sampler))
    if not isinstance(with_seed, partial):
        raise RequestError("sampler._partial_ must be true: the study adds the seed")
    if with_seed.func is GridSampler:
        with_seed = partial(with_seed, grid_of(space))

    def make() -> PerTrialSeed:
        sampler = PerTrialSeed(with_seed, seed)
        optuna.create_study(sampler=sampler).ask(space)  # some find out only when they are used
        return sampler

    return _build("sampler", make)  # type: ignore[no-any-return]


def make_pruner(cfg: DictConfig) -> BasePruner:
    """The pruner of the config's `pruner` node.

    Raises:
        RequestError: arguments that the pruner does not take.
    """

    def make() -> BasePruner:
        pruner: BasePruner = instantiate(cfg.pruner)
        trial = optuna.create_study(pruner=pruner).ask()  # some find out only when they are used
        trial.report(0.0, 1)
        trial.should_prune()
        return pruner

    return _build("pruner", make)  # type: ignore[no-any-return]


def _build(group: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (HydraException, ImportError, TypeError, ValueError) as error:
        raise RequestError(f"{group} cannot be made: {one_line(error)} (conf/{group}/ has the defaults)") from None


class PerTrialSeed(BaseSampler):
    """A sampler whose draws depend on the study's seed and the trial's number alone.

    A sampler seeded once would, in a resumed study, repeat the trials that the study has.
    """

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed=seed)
        self._one_sequence = isinstance(self._sampler, (GridSampler, QMCSampler))  # kept in the study's storage

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this trial."""
        if not self._one_sequence:
            digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
            self._sampler = self._make(seed=int.from_bytes(digest[:4], "big"))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        """As the sampler does."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        """As the sampler does."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: Any) -> Any:
        """As the sampler does."""
        return self._sampler.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """As the sampler does, but a grid's would stop an `optimize` which is not running."""
        if not self.is_grid:
            self._sampler.after_trial(study, trial, state, values)

    @property
    def is_grid(self) -> bool:
        """Whether the sampler tries the points of a grid, each once."""
        return isinstance(self._sampler, GridSampler)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Whether a grid has no point left to try."""
        return isinstance(self._sampler, GridSampler) and self._sampler.is_exhausted(study)
