import math

import pytest

from makemore.limits import LimitError
from makemore.schedule import Constant, Cosine, OneCycle, Step, learning_rates


def test_a_constant_rate_is_constant() -> None:
    assert learning_rates(Constant(0.1), 5) == [0.1] * 5


def test_the_lectures_step_drops_at_step_100000_of_200000() -> None:
    rates = learning_rates(Step(0.1, decay_at=0.5, decay_factor=0.1), 200_000)
    assert rates[99_999] == 0.1
    assert rates[100_000] == pytest.approx(0.01)


def test_cosine_warms_up_linearly_peaks_and_falls_to_its_final_factor() -> None:
    schedule = Cosine(0.2, warmup=0.1, final_factor=0.25)
    assert schedule.at(0.05) == pytest.approx(0.1)
    assert schedule.at(0.1) == pytest.approx(0.2)
    assert schedule.at(0.55) == pytest.approx(0.2 * (0.25 + 0.75 / 2))
    assert schedule.at(1.0) == pytest.approx(0.05)


def test_one_cycle_rises_from_its_initial_factor_and_ends_at_its_final_factor() -> None:
    schedule = OneCycle(1.0, warmup=0.3, initial_factor=0.04, final_factor=0.001)
    assert schedule.at(0.0) == pytest.approx(0.04)
    assert schedule.at(0.15) == pytest.approx(0.52)
    assert schedule.at(0.3) == pytest.approx(1.0)
    assert schedule.at(1.0) == pytest.approx(0.001)


def test_no_step_has_a_rate_of_zero() -> None:
    for schedule in (Cosine(0.1, 0.1, 0.0), OneCycle(0.1, 0.3, 0.0, 0.0)):
        assert min(learning_rates(schedule, 50)) > 0


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
def test_a_rate_that_is_not_positive_and_finite_is_refused(lr: float) -> None:
    with pytest.raises(LimitError, match="it must be > 0 and finite"):
        Constant(lr)


def test_a_decay_point_outside_the_run_is_refused() -> None:
    with pytest.raises(LimitError, match=r"decay_at is 1\.5; it must be > 0 and <= 1"):
        Step(0.1, decay_at=1.5, decay_factor=0.1)
