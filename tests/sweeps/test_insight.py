"""What a study is said to have taught: only what its trials bear out."""

import random

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from sweeps.reports.insight import importances
from sweeps.trials.standing import Standing


def study_of(count: int, effect: float, seed: int) -> Standing:
    """Trials of six hyperparameters, of which the first changes the loss by `effect`, with noise of 0.3."""
    draw = random.Random(seed)
    names = [f"x{number}" for number in range(6)]
    trials: list[FrozenTrial] = []
    for _ in range(count):
        params = {name: draw.random() for name in names}
        loss = effect * params["x0"] + draw.gauss(0, 0.3)
        distributions = dict.fromkeys(names, FloatDistribution(0, 1))
        trials.append(create_trial(params=params, distributions=distributions, value=loss))  # type: ignore[arg-type]
    return Standing(trials)


@pytest.mark.parametrize("seed", range(3))
def test_what_matters_is_named_with_an_interval_that_holds_it(seed: int) -> None:
    rows = importances(study_of(60, effect=3.0, seed=seed))
    assert next(iter(rows)) == "x0"
    assert [key for key, row in rows.items() if row.told] == ["x0"]
    assert all(0 <= row.low <= row.share <= row.high <= 1 for row in rows.values())


def test_noise_is_hardly_ever_said_to_matter() -> None:
    told = [key for seed in range(6) for key, row in importances(study_of(20, 0.0, seed)).items() if row.told]
    assert len(told) <= 1  # of 36


def test_few_trials_a_single_hyperparameter_and_equal_losses_say_nothing() -> None:
    assert importances(study_of(7, 3.0, 0)) == {}
    one = FloatDistribution(0, 1)
    trials = [
        create_trial(params={"x": number / 20}, distributions={"x": one}, value=float(number)) for number in range(20)
    ]
    assert importances(Standing(trials)) == {}
    equal = [
        create_trial(params={"x": number / 20, "y": 0.5}, distributions={"x": one, "y": one}, value=1.0)
        for number in range(20)
    ]
    assert importances(Standing(equal)) == {}
