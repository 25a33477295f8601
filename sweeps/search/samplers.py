"""How a study draws the settings of its trials: Optuna's samplers, from the config."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler, QMCSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.errors import RequestError
from sweeps.search.grid import is_small, points_of
from sweeps.search.instantiate import make_checked, without_warnings
from sweeps.search.space import Setting, Space, only_active

_DRAWS = 200  # of settings, until one is new and within the constraints
AUTO = "auto"  # the choice of a sampler and of a pruner that leaves both to the size of the space


def tries_all(cfg: DictConfig, space: Space, n_trials: int) -> bool:
    """Whether a study tries every setting of its space: no sampler was chosen, and there are no more than trials."""
    return bool(cfg.hydra.runtime.choices["sampler"] == AUTO) and is_small(space, n_trials)


def make_sampler(
    cfg: DictConfig, space: Space, seed: int, allows: Callable[[Setting], bool], in_full: bool
) -> "StudySampler":
    """The sampler of the config's `sampler` node.

    Args:
        allows: whether a setting is within the space's constraints.
        in_full: whether every setting of the space is tried, whatever the sampler.

    Raises:
        RequestError: arguments that the sampler does not take, or a grid of a space that has none.
    """
    with_seed = make_checked("sampler", lambda: instantiate(cfg.sampler))
    if not isinstance(with_seed, partial):
        raise RequestError("sampler._partial_ must be true: the study adds the seed")
    grid: list[Setting] | None = None
    if in_full or not space.distributions or with_seed.func is GridSampler:
        # Optuna's own sampler forgets points whose worker died, and repeats those that other processes are running.
        grid, with_seed = points_of(space, seed, allows), partial(RandomSampler)
    elif space.settings:
        raise RequestError(
            f"sampler._target_ is {cfg.sampler._target_}; it must be sampler=grid: space.settings are all that is tried"
        )

    def make() -> StudySampler:
        sampler = StudySampler(with_seed, seed, space, allows, grid)
        trial = optuna.create_study(sampler=sampler).ask()
        suggest(trial, space)  # some samplers check their arguments only when they are used
        return sampler

    return make_checked("sampler", make)


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
    """A sampler whose draws follow from the study's seed, the trial's number and the study's storage.

    A sampler that is seeded once would, in a resumed study, repeat the trials that the study has; so it is made anew
    for each trial. A whole setting is drawn at once, within conditions and constraints, when the first of its values is
    asked for: a trial is opened while the study is locked, and its setting drawn when the study no longer is.
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
        self._sampler = self._make_sampler(seed)
        self._one_sequence = isinstance(self._sampler, QMCSampler)  # its position is kept in the study's storage
        # Whether a setting may only be drawn while no other process draws one: it must be new, or next in a sequence.
        self.draws_alone = space.may_repeat or self._one_sequence
        self.trials: Sequence[FrozenTrial] = ()  # the study's, whose settings are not drawn again
        self._setting: Setting = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the sampler for this trial."""
        self._setting = {}
        self._reseed(trial.number, 0)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All keys: a setting is drawn as a whole."""
        return self._space.distributions

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Setting:
        """The trial's setting: a value for each key that is active."""
        self._setting = self._setting or self._draw(study, trial)
        return self._setting

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: Any) -> Any:
        """The value in the setting: Optuna asks here where rounding a logarithm puts it a hair outside of its range."""
        return self._setting[name]

    def _make_sampler(self, seed: int) -> BaseSampler:
        return without_warnings(lambda: self._make(seed=seed))

    def _reseed(self, number: int, attempt: int) -> None:
        if not self._one_sequence:
            self._sampler = self._make_sampler(self._digest(number, attempt))

    def _digest(self, number: int, attempt: int) -> int:
        digest = hashlib.sha256(f"{self._seed} {number} {attempt}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _draw(self, study: optuna.Study, trial: FrozenTrial) -> Setting:
        """A new setting within the constraints, with the values that the trial was queued with."""
        given = trial.system_attrs.get("fixed_params", {})
        others = [other for other in self.trials if other.number != trial.number]
        if self.grid is not None:
            return self._complete(given) or next(iter(self._untried(others)), self.grid[0])
        tried = self._tried(other for other in others if other.state != TrialState.FAIL)
        sampler = self._sampler
        for attempt in range(1, _DRAWS + 1):
            relative = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
            known = {**relative, **given}
            setting: Setting = {}
            for key, distribution in self._space.distributions.items():
                if self._space.is_active(key, setting):
                    if key not in known:
                        known[key] = sampler.sample_independent(study, trial, key, distribution)
                    setting[key] = known[key]
            is_new = setting.keys() <= given.keys() or self._space.point(setting) not in tried
            if is_new and self._allows(setting):
                return setting
            self._reseed(trial.number, attempt)
            # A sampler that has settled on a few settings may never draw another.
            sampler = self._sampler if attempt < _DRAWS / 2 else RandomSampler(seed=self._digest(trial.number, attempt))
        if is_small(self._space, len(tried) + _DRAWS):  # what is left may be too little to be drawn at random
            left = points_of(self._space, self._seed, self._allows)
            return next(setting for setting in left if self._space.point(setting) not in tried)
        raise RequestError(
            f"space.constraints.parameters is {self._space.most_parameters}; none of {_DRAWS} settings drawn has so "
            "few weights; narrow model.block_size, model.embedding_size or model.hidden_neurons, or raise it"
        )

    def count_untried(self, trials: Sequence[FrozenTrial]) -> int:
        """How many settings of the grid no trial has, or is going to draw; 0 without a grid."""
        undrawn = sum(trial.state == TrialState.RUNNING and not trial.params for trial in trials)
        return max(0, len(self._untried(trials)) - (undrawn if self._space.distributions else 0))

    def _untried(self, trials: Iterable[FrozenTrial]) -> list[Setting]:
        """The settings of the grid that no trial has, in the grid's order; what failed is not tried again here."""
        tried = self._tried(trials)
        return [setting for setting in self.grid or [] if self._space.point(setting) not in tried]

    def _complete(self, given: Setting) -> Setting:
        """What a trial was queued with, if that is a whole setting; otherwise empty."""
        setting = only_active(self._space, given)
        whole = all(key in setting for key in self._space.distributions if self._space.is_active(key, setting))
        return setting if whole else {}

    def _tried(self, trials: Iterable[FrozenTrial]) -> set[frozenset[tuple[str, float]]]:
        """What tells the settings of trials from others; a trial that is still to draw has none."""
        tried = set()
        for trial in trials:
            setting = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            if self._space.has(setting) and (setting or not self._space.distributions):
                tried.add(self._space.point(setting))
        return tried
