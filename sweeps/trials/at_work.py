"""The workers of a study that are at a trial: who they are, on which host, and when they last gave a sign of life."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import TrialState
from sqlalchemy import DateTime, Engine, column, func, select, table

from sweeps.trials.attributes import WORKER
from sweeps.trials.storage import GRACE_SECONDS
from sweeps.trials.trials import Trials

# Optuna writes the heartbeats, and has no public way to read them: these are its tables.
_TRIALS = table("trials", column("trial_id"), column("study_id"), column("number"))
_BEATS = table("trial_heartbeats", column("trial_id"), column("heartbeat", DateTime))


@dataclass(frozen=True)
class AtWork:
    """A worker at a trial."""

    worker: str
    trial: int
    confirms: int | None  # the trial that it confirms; None in the search
    seconds: float  # since its last heartbeat, by the database's clock

    @property
    def host(self) -> str:
        """The machine that it runs on, by the machine's own name."""
        return self.worker.rsplit("-", 2)[0]

    @property
    def is_silent(self) -> bool:
        """Whether it would be taken for dead."""
        return self.seconds > GRACE_SECONDS

    def __str__(self) -> str:
        doing = f"trial {self.trial}" if self.confirms is None else f"confirming trial {self.confirms}"
        return f"{self.worker} on {self.host}: {doing}, last beat {max(0.0, self.seconds):.0f} s ago"


def at_work(phases: Iterable[Trials]) -> list[AtWork]:
    """The workers at trials of a study, given its trials and those that confirm; nothing is written."""
    workers = []
    for trials in phases:
        running = [trial for trial in trials.standing().trials if trial.state == TrialState.RUNNING]
        seconds = _seconds_since_beats(trials.storage.engine, trials.study_id) if running else {}
        workers += [
            AtWork(trial.user_attrs[WORKER], trial.number, trial.user_attrs.get("confirms"), seconds[trial.number])
            for trial in running
            if WORKER in trial.user_attrs and trial.number in seconds
        ]
    return workers


def _seconds_since_beats(engine: Engine, study_id: int) -> dict[int, float]:
    """For each trial with a heartbeat, by number, how long ago it was."""
    beats = (
        select(_TRIALS.c.number, _BEATS.c.heartbeat)
        .join_from(_TRIALS, _BEATS, _TRIALS.c.trial_id == _BEATS.c.trial_id)
        .where(_TRIALS.c.study_id == study_id)
    )
    with engine.connect() as connection:
        now: datetime = connection.execute(select(func.now())).scalar_one().replace(tzinfo=None)
        return {number: (now - beat).total_seconds() for number, beat in connection.execute(beats)}
