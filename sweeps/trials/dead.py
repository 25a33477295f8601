"""Trials whose worker died: marked as failed, and their settings queued again.

What is to be done follows from the trials' records alone: whatever a process that dies in here leaves undone, the next
one does. All of it is called while no other process takes trials.
"""

import warnings
from contextlib import suppress

from optuna import Study
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from sweeps.trials.attributes import ATTEMPT, CHECKPOINTS, PURPOSE, RETRY_OF, WORKER, WORKER_DIED
from sweeps.trials.standing import Standing, needs_retry


def settle_dead_trials(study: Study, beats_count: bool = True) -> Standing:
    """The study's standing, once every dead trial is marked as failed and every retry is queued.

    Args:
        beats_count: False where a missing heartbeat does not mean that the worker is dead.
    """
    if beats_count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(study)
    standing = _read(study)
    half_taken = [trial for trial in standing.trials if _is_half_taken(trial)]
    for trial in half_taken:
        mark_failed(study, trial)
    if half_taken:
        standing = _read(study)
    return _read(study) if _queue_retries(study, standing) else standing


def mark_failed(study: Study, trial: FrozenTrial) -> None:
    """Mark a dead trial as failed, unless it ended after all."""
    with suppress(UpdateFinishedTrialError):
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _queue_retries(study: Study, standing: Standing) -> bool:
    """Queue the settings that are to be tried again and are not queued yet; whether there were any."""
    retried = {trial.user_attrs.get(RETRY_OF) for trial in standing.trials}
    to_retry = [trial for trial in standing.trials if needs_retry(trial) and trial.number not in retried]
    for trial in to_retry:
        setting = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        attributes = {key: value for key, value in trial.user_attrs.items() if key in (*PURPOSE, CHECKPOINTS)}
        attempt = trial.user_attrs.get(ATTEMPT, 1) + (WORKER_DIED in trial.user_attrs)
        study.enqueue_trial(setting, user_attrs={**attributes, RETRY_OF: trial.number, ATTEMPT: attempt})
    return bool(to_retry)


def _is_half_taken(trial: FrozenTrial) -> bool:
    """Whether the worker that took the trial died while it held the lock, which is now held by the caller."""
    return trial.state == TrialState.RUNNING and WORKER not in trial.user_attrs


def _read(study: Study) -> Standing:
    return Standing(study.get_trials(deepcopy=False))
