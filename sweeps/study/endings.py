"""How a trial ended, told to Optuna and recorded in MLflow.

A trial is complete, pruned or failed. Four kinds of failure are not of the trial's own making: it was interrupted, it
could not be recorded, its worker died, or it was given up as dead though its worker lives. After each of them its
setting is tried again.
"""

from dataclasses import dataclass

from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState

from makemore.train import Diverged
from sweeps.config.messages import reason
from sweeps.errors import hide_passwords
from sweeps.study.runs import RunOutcome
from sweeps.tracking.broken import why_not_recorded
from sweeps.tracking.queries import running
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore
from sweeps.trials.attributes import DIED, GIVEN_UP, INTERRUPTED, NOT_RECORDED, REASONS, WEIGHTS_DEV_LOSS
from sweeps.trials.standing import Standing
from sweeps.trials.trials import GivenUp, Trials


class Stopped(Exception):
    """The time is up, the study was stopped, or the process that started the worker is gone: an interrupted trial."""


_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


@dataclass(frozen=True)
class Ending:
    """How a trial ended."""

    state: TrialState
    reason: str = ""  # why it is not complete
    outcome: RunOutcome | None = None  # what it left, if it is complete

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the trial's run that say how it ended."""
        tags = {"trial_state": self.state.name} | ({"reason": self.reason} if self.reason else {})
        return tags | ({"weights_digest": self.outcome.weights_digest} if self.outcome else {})

    @property
    def is_recorded(self) -> bool:
        """Whether nothing kept it from being recorded; if something did, the trial is tried again."""
        return not self.reason.startswith(NOT_RECORDED)

    @property
    def run_status(self) -> str:
        """MLflow's status of the trial's run."""
        return _run_status(self.state, self.reason)


def ending_of(error: BaseException) -> Ending:
    """How a trial ended whose training raised an error."""
    match error:
        case TrialPruned():
            return Ending(TrialState.PRUNED, str(error))
        case Diverged():
            return Ending(TrialState.PRUNED, reason(error))
        case Stopped() | KeyboardInterrupt():
            return Ending(TrialState.FAIL, INTERRUPTED)
        case GivenUp():
            return Ending(TrialState.FAIL, GIVEN_UP)
        case Exception() if broken := why_not_recorded(error):
            return Ending(TrialState.FAIL, NOT_RECORDED + broken)
        case Exception():
            return Ending(TrialState.FAIL, reason(error))
    raise error


def tell_ending(trials: Trials, trial: Trial, ending: Ending, run_id: str | None = None) -> bool:
    """Tell Optuna how a trial ended; False if the trial had been given up as dead."""
    attributes: dict[str, object] = {}
    if ending.reason:
        attributes[REASONS[ending.state]] = hide_passwords(ending.reason)
    attributes |= {"run_id": run_id} if run_id else {}
    if outcome := ending.outcome:
        attributes |= {"weights_digest": outcome.weights_digest}
        attributes |= (
            {WEIGHTS_DEV_LOSS: outcome.weights_dev_loss} if outcome.weights_dev_loss != outcome.dev_loss else {}
        )
    try:
        trials.tell(trial, ending.state, ending.outcome.dev_loss if ending.outcome else None, attributes)
    except GivenUp:
        return False
    return True


def close_dead_runs(store: TrackingStore, study: str, kind: str, standing: Standing) -> None:
    """Close the runs that are recorded as running, though their trials have ended: their workers died."""
    for run_id, number in running(store, study, kind):
        trial = standing.trials[number] if number < len(standing.trials) else None
        if trial is not None and trial.state.is_finished():
            state, reason = trial.state, None
            if trial.user_attrs.get("run_id", run_id) != run_id:  # opened twice: the trial went on with the other
                state = TrialState.FAIL
            elif state != TrialState.COMPLETE:
                reason = trial.user_attrs.get(REASONS[state])
            tags = {"trial_state": state.name} | (
                {} if state == TrialState.COMPLETE else {"reason": str(reason or DIED)}
            )
            TrackedRun(store.client, run_id).end(_run_status(state, reason), tags)


def _run_status(state: TrialState, reason: str | None) -> str:
    """KILLED where the run did not fail of itself; a trial that failed without a reason is one whose worker died."""
    is_others_fault = reason in (None, INTERRUPTED, GIVEN_UP) or reason.startswith(NOT_RECORDED)
    if state == TrialState.FAIL and is_others_fault:
        return "KILLED"
    return _STATUS[state]
