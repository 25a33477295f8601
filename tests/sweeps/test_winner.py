"""How a winner is chosen."""

import math

import pytest

from sweeps.trials.winner import Confirmation, TrialResult, choose_winner, rank, summarize_confirmations


def complete(number: int, dev_loss: float) -> TrialResult:
    return TrialResult(number, "COMPLETE", dev_loss)


def unfinished(number: int, state: str) -> TrialResult:
    return TrialResult(number, state, math.nan)


def test_complete_trials_are_ranked_by_dev_loss_and_equal_ones_by_number() -> None:
    trials = [complete(0, 2.5), complete(3, 2.4), complete(2, 2.4), unfinished(1, "PRUNED"), unfinished(4, "FAIL")]
    assert [trial.number for trial in rank(trials)] == [2, 3, 0]


def test_a_diverged_dev_loss_never_wins() -> None:
    trials = [complete(0, math.nan), complete(1, math.inf), complete(2, 9.0), complete(3, float("nan"))]
    assert [trial.number for trial in rank(trials)] == [2, 1, 0, 3]


def test_without_confirmations_the_lowest_dev_loss_wins() -> None:
    trials = [complete(0, 2.5), complete(1, 2.4), unfinished(2, "RUNNING")]
    winner = choose_winner(trials, [])
    assert winner is not None
    assert winner.number == 1


@pytest.mark.parametrize("state", ["PRUNED", "FAIL", "RUNNING", "WAITING"])
def test_without_a_complete_trial_there_is_no_winner(state: str) -> None:
    assert choose_winner([unfinished(0, state)], []) is None
    assert choose_winner([], []) is None


def test_the_lowest_mean_over_fresh_seeds_wins_over_the_lowest_dev_loss() -> None:
    trials = [complete(0, 2.30), complete(1, 2.31), complete(2, 2.40)]
    confirming = [complete(0, 2.50), complete(0, 2.54), complete(1, 2.40), complete(1, 2.42)]
    confirmations = summarize_confirmations(trials, confirming, top=2, seeds=2)
    assert [(row.trial, row.dev_loss) for row in confirmations] == [(1, 2.31), (0, 2.30)]
    assert confirmations[0].mean == pytest.approx(2.41)
    assert confirmations[0].sd == pytest.approx(0.02 / math.sqrt(2))
    assert confirmations[0].too_good == pytest.approx(0.10)
    winner = choose_winner(trials, confirmations)
    assert winner is not None
    assert winner.number == 1


def test_of_equal_means_the_first_trial_wins() -> None:
    trials = [complete(0, 2.4), complete(1, 2.3)]
    confirmations = summarize_confirmations(trials, [complete(1, 2.5), complete(0, 2.5)], top=2, seeds=1)
    assert [row.trial for row in confirmations] == [0, 1]
    assert all(math.isnan(row.sd) for row in confirmations)


def test_nothing_is_confirmed_until_all_of_the_best_trials_have_all_of_their_runs() -> None:
    trials = [complete(0, 2.3), complete(1, 2.4)]
    first = [complete(0, 2.5), complete(0, 2.6)]
    for missing in ([], [complete(1, 2.5)], [complete(1, 2.5), unfinished(1, "RUNNING")], [unfinished(1, "FAIL")] * 2):
        assert summarize_confirmations(trials, first + missing, top=2, seeds=2) == []
    assert len(summarize_confirmations(trials, [*first, complete(1, 2.5), complete(1, 2.5)], top=2, seeds=2)) == 2


def test_a_confirming_run_that_diverged_makes_the_mean_infinite() -> None:
    trials = [complete(0, 2.3), complete(1, 2.4)]
    confirming = [complete(0, 2.2), unfinished(0, "PRUNED"), complete(1, 2.9), complete(1, 2.9)]
    confirmations = summarize_confirmations(trials, confirming, top=2, seeds=2)
    assert [(row.trial, row.mean) for row in confirmations] == [(1, 2.9), (0, math.inf)]
    assert math.isnan(confirmations[1].sd)


def test_a_study_that_confirms_nothing_has_no_confirmations() -> None:
    assert summarize_confirmations([complete(0, 2.3)], [complete(0, 2.4)], top=0, seeds=1) == []


def test_a_confirmed_trial_that_is_not_among_the_trials_does_not_win() -> None:
    assert choose_winner([complete(0, 2.3)], [Confirmation(7, 2.2, 2.3, 0.0)]) is None
