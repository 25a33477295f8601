"""How a study draws its settings."""

from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import TrialState, create_trial

from sweeps.search.samplers import StudySampler, suggest
from sweeps.search.space import Setting, Space

SPACE = Space({"x": FloatDistribution(1e-3, 1.0, log=True), "n": IntDistribution(1, 9)}, [], {}, None, [])


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    """Twelve complete trials, and one at work."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    for i in range(12):
        params = {"x": 0.01 * (i + 1), "n": i % 9 + 1}
        study.add_trial(create_trial(params=params, distributions=SPACE.distributions, value=(i - 5) ** 2))
    suggest(study.ask(), SPACE)
    return study


def test_each_draw_is_that_of_optunas_sampler_with_a_seed_of_its_own(study: optuna.Study) -> None:
    seeds: list[int] = []
    draws: list[Setting] = []

    def make(seed: int) -> BaseSampler:
        seeds.append(seed)
        return TPESampler(seed=seed, multivariate=True, group=True)

    def allows_the_fourth(setting: Setting) -> bool:
        draws.append(setting)
        return len(draws) == 4

    study.sampler = StudySampler(make, 0, SPACE, allows_the_fourth, None)
    trial = study.ask()
    drawn = suggest(trial, SPACE)
    assert len(draws) == len(set(seeds[-4:])) == 4
    study.tell(trial, state=TrialState.FAIL)
    study.sampler = TPESampler(seed=seeds[-1], multivariate=True, group=True)
    assert suggest(study.ask(), SPACE) == drawn


@pytest.mark.filterwarnings("error::optuna.exceptions.ExperimentalWarning")
def test_a_sampler_that_learns_from_what_was_refused_moves_on(study: optuna.Study) -> None:
    draws: list[Setting] = []

    def allows_the_sixth(setting: Setting) -> bool:
        draws.append(setting)
        return len(draws) == 6

    make = partial(GPSampler, n_startup_trials=1, deterministic_objective=True)
    study.sampler = StudySampler(make, 0, SPACE, allows_the_sixth, None)
    suggest(study.ask(), SPACE)
    assert len({setting["n"] for setting in draws}) > 1
