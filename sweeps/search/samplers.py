"""How a study chooses its next trial and which trials stop early: Optuna's samplers and pruners, from the config."""

import copy
import hashlib
import itertools
import math
import random
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import optuna
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial

from sweeps.config.messages import one_line
from sweeps.errors import RequestError
from sweeps.search.space import Setting, Space, grid_of

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of features that conf/sampler chooses knowingly


_GRID = 10_000  # points
_DRAWS = 200  # of settings, until one is within the constraints


def make_sampler(cfg: DictConfig, space: Space, seed: int, allows: Callable[[Setting], bool]) -> "StudySampler":
    """The sampler of the config's `sampler` node.

    Args:
        allows: whether the space's constraints leave a setting in.

    Raises:
        RequestError: arguments that the sampler does not take, or a grid of what has no grid.
    """
    with_seed = _build("sampler", lambda: instantiate(cfg.sampler))
    if not isinstance(with_seed, partial):
        raise RequestError("sampler._partial_ must be true: the study adds the seed")
    grid = None
    if with_seed.func is GridSampler:
        # Every point is queued when the study starts: Optuna's own sampler forgets points whose worker died, and
        # repeats those that others are running.
        grid, with_seed = points_of(space, seed), partial(RandomSampler)
    elif space.settings:
        raise RequestError(
            f"sampler._target_ is {cfg.sampler._target_}; it must be sampler=grid: space.settings are all that is tried"
        )

    def make() -> StudySampler:
        sampler = StudySampler(with_seed, seed, space, allows, grid)
        suggest(optuna.create_study(sampler=sampler).ask(), space)  # some find out only when they are used
        return sampler

    return _build("sampler", make)  # type: ignore[no-any-return]


def make_pruner(cfg: DictConfig) -> BasePruner:
    """The pruner of the config's `pruner` node; none where a run is evaluated once, at its end.

    Raises:
        RequestError: arguments that the pruner does not take.
    """

    def make() -> BasePruner:
        if cfg.train.evaluations == 1:
            return NopPruner()
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


def points_of(space: Space, seed: int) -> list[Setting]:
    """Every point of a space's grid, in an order that the seed decides: a part of them is a sample of all.

    Raises:
        RequestError: too many, or a space that has no grid.
    """
    grid, settings = grid_of(space), space.settings or [{}]
    count = len(settings) * math.prod(len(values) for values in grid.values())
    if count > _GRID:
        raise RequestError(f"sampler=grid has {count} points; it may have {_GRID}: use sampler=qmc, or fewer values")
    rows = list(itertools.product(*grid.values()))
    points = [setting | dict(zip(grid, values, strict=True)) for setting in settings for values in rows]
    random.Random(seed).shuffle(points)
    return points


def suggest(trial: Trial, space: Space) -> Setting:
    """The setting of a trial: a value for each key that is active."""
    setting: Setting = {}
    for key, distribution in space.distributions.items():
        if not space.is_active(key, setting):
            continue
        match distribution:
            case CategoricalDistribution():
                setting[key] = trial.suggest_categorical(key, distribution.choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                setting[key] = trial.suggest_int(key, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                setting[key] = trial.suggest_float(key, low, high, step=step, log=log)
    return setting


class StudySampler(BaseSampler):
    """A sampler whose draws depend on the study's seed and the trial's number, within conditions and constraints.

    A sampler seeded once would, in a resumed study, repeat the trials that the study has; so it is made anew for each
    trial, and learns from the study's storage alone. A whole setting is drawn, as Optuna's relative sampling, when the
    first of its values is asked for, and not before: a trial is opened while the study is locked, and drawn when it no
    longer is.
    """

    def __init__(
        self,
        make: Callable[..., BaseSampler],
        seed: int,
        space: Space,
        allows: Callable[[Setting], bool],
        grid: list[Setting] | None,
    ) -> None:
        self._make, self._seed, self._space, self._allows = make, seed, space, allows
        self.grid = grid  # the settings to try, and no others; None: settings are drawn
        self._sampler = make(seed=seed)
        self._one_sequence = isinstance(self._sampler, QMCSampler)  # kept in the study's storage
        self._setting: Setting = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this trial."""
        self._setting = {}
        self._reseed(trial.number, 0)
        self._sampler.before_trial(study, trial)
        if self._one_sequence:  # the next point of its sequence, while no other process takes one
            self._setting = self._draw(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All keys: a setting is drawn as a whole."""
        return self._space.distributions

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Setting:
        """The trial's setting: a value for each key that is active."""
        self._setting = self._setting or self._draw(study, trial)
        return self._setting

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: Any) -> Any:
        """The value in the setting: asked for where rounding, of a logarithm, puts it a hair outside of its range."""
        return self._setting[name]

    def _reseed(self, number: int, attempt: int) -> None:
        if not self._one_sequence:
            digest = hashlib.sha256(f"{self._seed} {number} {attempt}".encode()).digest()
            self._sampler = self._make(seed=int.from_bytes(digest[:4], "big"))

    def _draw(self, study: optuna.Study, trial: FrozenTrial) -> Setting:
        """A setting within the constraints, with the values that the trial was queued with."""
        given = trial.system_attrs.get("fixed_params", {})
        for attempt in range(1, _DRAWS + 1):
            inner, now = self._sampler, cast(optuna.Study, _ReadOnce(study))
            relative = inner.sample_relative(now, trial, inner.infer_relative_search_space(now, trial))
            known = {**relative, **given}
            setting: Setting = {}
            for key, distribution in self._space.distributions.items():
                if self._space.is_active(key, setting):
                    if key not in known:
                        known[key] = inner.sample_independent(now, trial, key, distribution)
                    setting[key] = known[key]
            if self._allows(setting):
                return setting
            self._reseed(trial.number, attempt)
        raise RequestError(
            f"space.constraints.parameters is {self._space.most_parameters}; none of {_DRAWS} settings drawn has so "
            "few weights; narrow model.block_size, model.embedding_size or model.hidden_neurons, or raise it"
        )


class _ReadOnce:
    """A study whose trials are read from its storage once, where a sampler would do so again for each step of a draw.

    For one draw: a sampler may learn from those that it made before for the same trial, as GPSampler does.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._trials: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        if self._trials is None:
            self._trials = self._study._get_trials(deepcopy=False)
        found = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found
