"""How a study draws its settings."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import create_trial

from sweeps.search import StudySampler, suggest
from sweeps.space import Setting, Space

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


def test_a_study_draws_what_optunas_sampler_would_and_reads_its_trials_once(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    reads: list[int] = []
    read = _CachedStorage.get_all_trials

    def make(seed: int) -> BaseSampler:
        made.append(seed)
        return TPESampler(seed=seed, multivariate=True, group=True)

    def count(storage: _CachedStorage, study_id: int, *arguments: Any, **more: Any) -> Any:
        reads.append(study_id)
        return read(storage, study_id, *arguments, **more)

    refused: list[Setting] = []

    def allows(setting: Setting) -> bool:
        """All but the first three."""
        refused.append(setting)
        return len(refused) > 3

    study.sampler = StudySampler(make, 0, SPACE, allows, None)
    trial = study.ask()
    monkeypatch.setattr(_CachedStorage, "get_all_trials", count)
    drawn = suggest(trial, SPACE)
    assert len(reads) == 1
    monkeypatch.undo()
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert made[-4:] == list(dict.fromkeys(made[-4:]))  # each attempt has a seed of its own
    study.sampler = TPESampler(seed=made[-1], multivariate=True, group=True)
    assert suggest(study.ask(), SPACE) == drawn
