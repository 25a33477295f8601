"""The tuning curve of a random search: its median, its band, and when there is none."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import Makemore
from fake_tasks import FAKE
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.reports.tuning_curve import independent_losses, tuning_curve


def test_the_median_is_that_of_the_best_of_k_trials() -> None:
    losses = [3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    draw = np.random.default_rng(0)
    curve = tuning_curve(losses)
    assert len(curve.median) == 10
    for k in (1, 2, 3, 5, 10):
        best = draw.choice(losses, (20_001, k)).min(axis=1)
        assert abs(np.median(best) - curve.median[k - 1]) <= 1  # a step between two losses
    assert all(low <= middle <= high for low, middle, high in zip(curve.low, curve.median, curve.high, strict=True))
    assert curve.low[-1] == -math.inf  # ten trials do not say how good the best of ten may be


def test_the_band_holds_the_whole_curve_in_95_of_100_searches() -> None:
    draw, searches, held = np.random.default_rng(1), 5000, 0
    truth = [1 - 0.5 ** (1 / k) for k in range(1, 21)]  # the median of the best of k uniform numbers
    for _ in range(searches):
        curve = tuning_curve(draw.random(20).tolist())
        held += all(low <= value <= high for low, value, high in zip(curve.low, truth, curve.high, strict=True))
    assert 0.945 <= held / searches <= 0.965


def test_a_diverged_trial_counts_as_infinitely_bad() -> None:
    curve = tuning_curve([1.0] * 5 + [math.inf] * 5)
    assert curve.median[0] == 1.0
    assert curve.high[0] == math.inf
    assert tuning_curve([1.0] * 4 + [math.inf] * 6).median[0] == math.inf


def trial(loss: float | None, state: TrialState = TrialState.COMPLETE, **attributes: str) -> FrozenTrial:
    return create_trial(
        params={"lr": 0.5},
        distributions={"lr": FloatDistribution(0, 1)},
        value=loss,
        state=state,
        user_attrs=attributes,
    )


def test_trials_that_were_cut_short_do_not_count_and_given_settings_neither() -> None:
    complete = [trial(1.0 + number) for number in range(10)]
    others = [
        trial(None, TrialState.FAIL, reason=reason)
        for reason in ("interrupted", "given up as dead", "OSError: no space left")
    ]
    others += [trial(None, TrialState.FAIL), trial(0.5, warm_start="the lecture's")]
    assert independent_losses([*complete, *others], ["random/none"]) == [1.0 + number for number in range(10)]
    diverged = trial(None, TrialState.FAIL, reason="Diverged: the dev loss is nan at step 1")
    losses = independent_losses([*complete, diverged], ["random/none"])
    assert losses is not None
    assert losses[-1] == math.inf


@pytest.mark.parametrize("method", [[], ["tpe/none"], ["random/hyperband"], ["unknown", "random/none"]])
def test_no_other_search_has_a_curve(method: list[str]) -> None:
    assert independent_losses([trial(1.0)] * 20, method) is None


def test_a_finite_space_has_no_curve() -> None:
    finite = create_trial(params={"size": 3}, distributions={"size": IntDistribution(1, 9)}, value=1.0)
    assert independent_losses([finite] * 20, ["random/none"]) is None


@pytest.mark.extras
def test_only_a_random_search_without_pruning_has_a_curve(makemore: Makemore, workdir: Path) -> None:
    words = ("task=instant", "task.level=interval(1,2)", "study.n_trials=12", "study.workers=1", "study.confirm.top=0")
    random = ("sampler=random", "pruner=none")
    assert makemore("sweep", *FAKE, *words, *random, "study.name=a").code == 0
    study = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db")
    assert study.user_attrs["searched_with"] == ["random/none"]
    losses = independent_losses(study.trials, study.user_attrs["searched_with"])
    assert losses == [trial.value for trial in study.trials]
    [page] = workdir.rglob("pictures.html")
    assert "Tuning curve" in page.read_text()
    assert len(list(workdir.rglob("tuning_curve.png"))) == 1
    assert makemore("sweep", *FAKE, *words[:2], "study.n_trials=14", *words[3:], "study.name=a").code == 0
    study = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db")
    assert independent_losses(study.trials, study.user_attrs["searched_with"]) is None
    [page] = workdir.rglob("pictures.html")
    assert "Tuning curve" not in page.read_text()
