"""The tuning curve of a random search: its median, its band, and when there is none."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import Makemore
from fake_tasks import FAKE

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
    draw, searches, held = np.random.default_rng(1), 1000, 0
    truth = [1 - 0.5 ** (1 / k) for k in range(1, 21)]  # the median of the best of k uniform numbers
    for _ in range(searches):
        curve = tuning_curve(draw.random(20).tolist())
        held += all(low <= value <= high for low, value, high in zip(curve.low, truth, curve.high, strict=True))
    assert 0.93 <= held / searches <= 0.98


def test_a_diverged_trial_counts_as_infinitely_bad() -> None:
    curve = tuning_curve([1.0] * 5 + [math.inf] * 5)
    assert curve.median[0] == 1.0
    assert curve.high[0] == math.inf
    assert tuning_curve([1.0] * 4 + [math.inf] * 6).median[0] == math.inf


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
