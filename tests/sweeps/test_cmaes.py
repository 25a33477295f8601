"""The state of CMA-ES in a study's storage: read as Optuna reads it, and nothing that it names is run."""

import pickle
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.errors import RequestError
from sweeps.search.cmaes import CmaEsSampler


def parabola(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", -1, 1) ** 2


class Harm:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", [{}, {"use_separable_cma": True}, {"with_margin": True}])
def test_it_draws_what_optunas_sampler_draws(kind: dict[str, bool]) -> None:
    drawn = []
    for sampler in (CmaEsSampler, optuna.samplers.CmaEsSampler):
        study = optuna.create_study(sampler=sampler(seed=1, **kind))
        study.optimize(parabola, n_trials=25)
        assert any(":optimizer:0" in key for trial in study.trials for key in trial.system_attrs)
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] == drawn[1]


def plant(study: optuna.Study, path: Path) -> None:
    state = {"cma:optimizer:0": pickle.dumps(Harm(path)).hex()}
    distributions = {name: optuna.distributions.FloatDistribution(-1, 1) for name in "xy"}
    for x in (0.1, 0.2):  # after a single trial it draws at random
        trial = optuna.trial.create_trial(
            params={"x": x, "y": x}, distributions=distributions, value=x, system_attrs=state
        )
        study.add_trial(trial)


def test_a_state_that_names_anything_else_is_refused_and_not_run(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=CmaEsSampler(seed=1))
    plant(study, tmp_path / "harm")
    with pytest.raises(
        RequestError, match=r"sampler=cmaes: its state in trial 1 names pathlib\.Path\.touch, .* database"
    ):
        study.optimize(parabola, n_trials=1)
    assert not (tmp_path / "harm").exists()


def test_optunas_own_sampler_would_have_run_it(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=1))
    plant(study, tmp_path / "harm")
    study.optimize(parabola, n_trials=1)
    assert (tmp_path / "harm").exists()
