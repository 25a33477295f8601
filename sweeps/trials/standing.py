"""How far a study is."""

from dataclasses import dataclass
from functools import cached_property

from optuna.trial import FrozenTrial, TrialState

from sweeps.trials.attributes import ATTEMPT, INTERRUPTED, NOT_RECORDED, REASONS, TAKEN_FROM, WORKER_DIED
from sweeps.trials.winner import TrialResult, rank

_MOST_ATTEMPTS = 3  # at a setting whose workers die: it may be the setting that kills them


@dataclass(frozen=True)
class Standing:
    """The trials of a study at one moment."""

    trials: list[FrozenTrial]  # by number, with those that were taken over from another study

    @cached_property
    def own(self) -> list[FrozenTrial]:
        """The trials that are the study's own."""
        return [trial for trial in self.trials if TAKEN_FROM not in trial.user_attrs]

    def count(self, *states: TrialState) -> int:
        """How many of the study's own trials are in any of the states."""
        return sum(trial.state in states for trial in self.own)

    @cached_property
    def finished(self) -> int:
        """How many trials are complete or pruned."""
        return self.count(TrialState.COMPLETE, TrialState.PRUNED)

    @cached_property
    def running(self) -> int:
        """How many trials are running."""
        return self.count(TrialState.RUNNING)

    @cached_property
    def failures(self) -> int:
        """How many trials failed and are not tried again."""
        return sum(trial.state == TrialState.FAIL and not needs_retry(trial) for trial in self.own)

    @cached_property
    def since_best(self) -> int:
        """How many trials have finished since the best one did; 0 while none is complete."""
        if not self.ranking:
            return 0
        finished = [trial for trial in self.own if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        ended, best = [trial.datetime_complete for trial in finished], self.ranking[0].datetime_complete
        return sum(moment > best for moment in ended if moment is not None and best is not None)

    @cached_property
    def ranking(self) -> list[FrozenTrial]:
        """The complete trials, lowest dev loss first; of equal ones, the earlier first."""
        complete = [trial for trial in self.own if trial.state == TrialState.COMPLETE]
        results = [TrialResult(trial.number, trial.state.name, float(trial.values[0])) for trial in complete]
        return [self.trials[result.number] for result in rank(results)]


def needs_retry(trial: FrozenTrial) -> bool:
    """Whether a setting is to be tried again: interrupted, not recorded, or its worker died, though not too often."""
    if trial.state != TrialState.FAIL:
        return False
    reason = trial.user_attrs.get(REASONS[TrialState.FAIL])
    if reason is not None:
        return bool(reason == INTERRUPTED or str(reason).startswith(NOT_RECORDED))
    return WORKER_DIED not in trial.user_attrs or trial.user_attrs.get(ATTEMPT, 1) < _MOST_ATTEMPTS
