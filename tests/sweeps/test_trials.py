"""Taking trials from a study's storage, with the deaths that a kill can leave behind."""

import time
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import Trial, TrialState
from sqlalchemy import text

from sweeps.trials.standing import Standing
from sweeps.trials.trials import GivenUp, Trials


@pytest.fixture
def study(tmp_path: Path) -> Trials:
    return Trials(f"sqlite:///{tmp_path}/study.db", "a")


def may_start(standing: Standing) -> bool:
    return standing.finished + standing.running < 2


def take(study: Trials) -> Trial:
    trial, _ = study.take("me", may_start)
    assert trial is not None
    trial.suggest_float("x", 0.0, 1.0)
    return trial


def stop_the_heart(study: Trials, trial: Trial) -> None:
    """Date the trial's heartbeats back."""
    of_trial = "trial_id in (select trial_id from trials where number = :number)"
    with study.storage.engine.begin() as connection:
        connection.execute(
            text(f"update trial_heartbeats set heartbeat = '2020-01-01' where {of_trial}"), {"number": trial.number}
        )


def test_no_more_trials_are_taken_than_may_start(study: Trials) -> None:
    first, _ = take(study), take(study)
    assert study.take("me", may_start)[0] is None
    study.tell(first, TrialState.FAIL, attributes={"reason": "the disk is full"})
    assert take(study).number == 2


def test_a_trial_whose_heart_stopped_is_failed_and_its_setting_tried_again(study: Trials) -> None:
    dead, alive = take(study), take(study)
    stop_the_heart(study, dead)
    again = take(study)
    assert again.params == dead.params
    assert again.user_attrs["retry_of"] == dead.number
    states = [trial.state.name for trial in study.standing().trials]
    assert states == ["FAIL", "RUNNING", "RUNNING"]
    assert alive.number == 1


def test_a_trial_that_was_given_up_too_early_is_lost_and_says_so(study: Trials) -> None:
    trial = take(study)
    stop_the_heart(study, trial)
    take(study)
    with pytest.raises(GivenUp):
        study.report(trial, 1, 2.0)
    with pytest.raises(GivenUp):
        study.tell(trial, TrialState.COMPLETE, 2.0, {"run_id": "1"})
    for state, dev_loss in ((TrialState.COMPLETE, 2.0), (TrialState.PRUNED, None), (TrialState.FAIL, None)):
        with pytest.raises(GivenUp):
            study.tell(trial, state, dev_loss)
    assert study.standing().finished == 0


def test_a_trial_whose_taker_died_while_it_took_it_is_found_without_a_heartbeat(study: Trials) -> None:
    with pytest.warns(UserWarning, match="Heartbeat"):
        study.study.ask()  # and no more
    assert take(study).number == 1
    assert study.standing().trials[0].state == TrialState.FAIL


def test_the_trials_of_a_dead_worker_are_buried_at_once(study: Trials) -> None:
    trial, _ = study.take("its name", may_start)
    study.bury("another name")
    assert study.standing().running == 1
    study.bury("its name")
    assert study.standing().running == 0
    assert trial is not None


def test_a_setting_that_kills_its_workers_is_given_up_after_three(study: Trials) -> None:
    seen: list[dict[str, Any]] = []
    for _ in range(4):
        trial = take(study)
        seen.append(trial.params)
        study.bury("me")
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert study.standing().failures == 1


def test_an_interruption_does_not_count_as_a_death(study: Trials) -> None:
    seen: list[dict[str, Any]] = []
    for _ in range(5):
        trial = take(study)
        seen.append(trial.params)
        study.tell(trial, TrialState.FAIL, attributes={"reason": "interrupted"})
    assert all(params == seen[0] for params in seen)
    assert study.standing().failures == 0


def test_a_process_that_dies_between_a_death_and_its_retry_leaves_it_to_the_next(study: Trials) -> None:
    trial = take(study)
    study.study.tell(trial, state=TrialState.FAIL)  # as the first half of burying it
    assert take(study).params == trial.params
    assert len(study.standing().trials) == 2  # and only once
    assert take(study).params != trial.params


def test_a_heart_goes_on_beating_after_the_database_was_away(study: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[int] = []

    def beat(trial_id: int) -> None:
        beats.append(trial_id)
        if len(beats) == 1:
            raise StorageInternalError("the database is away")

    trial = take(study)
    monkeypatch.setattr(study.storage, "record_heartbeat", beat)
    with study.beating(trial, seconds=0.01):
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3
