"""A worker of a study: takes trials, trains them as Hydra jobs, tells how they ended, until nothing is left to do."""

import itertools
import math
import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress

from omegaconf import DictConfig
from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState

from makemore.train import Diverged
from sweeps.config.messages import one_line
from sweeps.connections import give_back_connections, is_lost
from sweeps.errors import NotRecorded
from sweeps.study.checkpoints import Checkpoints
from sweeps.study.common_failure import common_failure
from sweeps.study.endings import Ending, Stopped, ending_of, tell_ending
from sweeps.study.interruption import Interruption
from sweeps.study.phases import ConfirmPhase, Phase, SearchPhase
from sweeps.study.plan import Plan
from sweeps.study.progress import News
from sweeps.study.runs import OpenRun, TrialPlace, open_run
from sweeps.study.seeds import train_seeds
from sweeps.tracking.broken import why_not_recorded
from sweeps.tracking.quiet import short_waits
from sweeps.tracking.store import open_tracking
from sweeps.trials.attributes import CHECKPOINTS, GIVEN_UP, INTERRUPTED, NOT_RECORDED
from sweeps.trials.standing import Standing
from sweeps.trials.stop import StopWatch
from sweeps.trials.storage import BEAT_SECONDS
from sweeps.trials.trials import GivenUp

PATIENCE_SECONDS = 20  # from an interruption until what the worker still records is given up
_MOST_UNRECORDED = 2  # trials in a row: a moment's failure costs one, and what lasts ends the worker
_POLL_SECONDS = 0.2  # while other workers run the last trials
_MANY = 4  # workers: of more, each asks more rarely, or their questions would keep the others from their work


class Worker:
    """Runs the trials of a study, one after the other."""

    def __init__(
        self, plan: Plan, show: Callable[[News], None], name: str = "", goes_on: Callable[[], bool] = lambda: True
    ) -> None:
        """Prepare to work.

        Args:
            show: is told what the worker does.
            name: a name that no other worker has; "" makes up one.
            goes_on: says whether the worker is still wanted.
        """
        self._plan, self._show, self._goes_on = plan, show, goes_on
        self.name = name or worker_name(os.getpid())
        self._interruption = Interruption()
        self._store = open_tracking(plan.cfg)
        self._stop: StopWatch | None = None
        self._trains_long = False  # whether the last trial did; while the next one trains, connections are given back
        self._unrecorded = 0  # trials in a row

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            KeyboardInterrupt: the worker was interrupted; its trial is recorded as such.
        """
        with self._interruption.watched(PATIENCE_SECONDS):
            phase = SearchPhase(self._plan)
            self._stop = StopWatch(phase.trials, self._plan.stop_seen)
            search = self._work(phase)
            if self._plan.confirm.top and search.ranking and not self._stops():
                self._work(ConfirmPhase(self._plan, search))
        self._interruption.check()

    def _work(self, phase: Phase) -> Standing:
        """Run trials until none may start, and none is running elsewhere that could still fail."""
        while True:
            trial, standing = phase.trials.take(self.name, lambda standing: self._may_start(phase, standing))
            number = trial.number if trial else None
            counts = standing.finished, phase.total(standing)
            self._show(News(self.name, phase.name, trial=number, standing=counts, best=phase.best(standing)))
            if trial is not None:
                ending = self._run(phase, trial)
                self._give_back()
                self._unrecorded = 0 if ending.is_recorded else self._unrecorded + 1
                if self._unrecorded >= _MOST_UNRECORDED:
                    raise NotRecorded(
                        f"{self._unrecorded} trials in a row could not be recorded, so their worker ends (trial "
                        f"{trial.number} was {ending.reason}); mend that, and the same command goes on"
                    )
                if ending.state == TrialState.FAIL and ending.reason != INTERRUPTED:
                    how = "was" if ending.reason == GIVEN_UP or not ending.is_recorded else "failed:"
                    self._show(News(self.name, phase.name, failure=f"trial {trial.number} {how} {ending.reason}"))
            elif standing.running == 0 or self._plan.is_late():
                return standing
            else:
                give_back_connections()
                time.sleep(_POLL_SECONDS * max(1.0, self._plan.workers / _MANY))
            if self._stops():
                return standing

    def _run(self, phase: Phase, trial: Trial) -> Ending:
        """Run one trial as a Hydra job."""
        ending = Ending(TrialState.FAIL)
        with phase.trials.beating(trial):
            try:
                setting, place = phase.prepare(trial)

                def task(cfg: DictConfig) -> float | None:
                    nonlocal ending
                    try:
                        ending = self._train(phase, trial, cfg, place)
                    except Exception as error:
                        ending = Ending(TrialState.FAIL, f"its end could not be recorded: {one_line(error)}")
                        raise  # Hydra's callbacks are told that the job failed
                    return ending.outcome.dev_loss if ending.outcome else None

                self._plan.jobs.run(setting, task, place.number, place.subdir)
            except Exception as error:  # of the job; what its task raises does not get here
                ending = Ending(TrialState.FAIL, INTERRUPTED) if is_lost(error) else _failed(error)
                tell_ending(phase.trials, trial, ending)
        return ending

    def _train(self, phase: Phase, trial: Trial, cfg: DictConfig, place: TrialPlace) -> Ending:
        """Train a trial, and tell MLflow and Optuna how it ended.

        What Optuna is told counts. The MLflow run stays open until then, whatever is in it; where it is open though
        the trial has ended, it is closed later as Optuna knows the trial.
        """
        try:
            run = open_run(cfg, lambda: self._store, place)
        except Exception as error:
            ending = _failed(error)
            tell_ending(phase.trials, trial, ending)
            return ending
        checkpoints = Checkpoints(
            run.config.checkpoint,
            self._store,
            known=dict(trial.user_attrs.get(CHECKPOINTS, {})),
            announce=lambda known: trial.set_user_attr(CHECKPOINTS, known),
            evaluations=_count_evaluations(run, place),
            seeds=max(1, len(place.seeds)),
        )
        started = time.monotonic()
        self._give_back()
        ending = self._end_training(phase, trial, run, place, checkpoints)
        self._trains_long = time.monotonic() - started > BEAT_SECONDS
        with short_waits() if self._stops() else nullcontext():
            recorded = self._record_ending(phase, trial, run, ending)
        if recorded.is_recorded and recorded.reason not in (INTERRUPTED, GIVEN_UP):
            checkpoints.drop()
        return recorded

    def _record_ending(self, phase: Phase, trial: Trial, run: OpenRun, recorded: Ending) -> Ending:
        ending, run_id = recorded, run.tracked.run_id
        try:
            run.record(ending.tags)
        except Exception as error:
            if ending.reason != INTERRUPTED:
                ending = ending_of(error)
        except KeyboardInterrupt:  # it takes too long
            tell_ending(phase.trials, trial, Ending(TrialState.FAIL, INTERRUPTED), run_id)
            raise
        if not tell_ending(phase.trials, trial, ending, run_id):
            ending = Ending(TrialState.FAIL, GIVEN_UP)
        try:
            run.end(ending.run_status, {} if ending is recorded else ending.tags)
        except Exception:
            if ending.is_recorded:
                raise
        return ending

    def _end_training(
        self, phase: Phase, trial: Trial, run: OpenRun, place: TrialPlace, checkpoints: Checkpoints
    ) -> Ending:
        """Train a trial until it ends, in whatever way."""
        evaluations = itertools.count(1)  # what pruners count in: steps differ between trials
        in_all = _count_evaluations(run, place)

        def report(step: int, dev_loss: float, first_seed: bool = True) -> None:
            evaluation = next(evaluations)
            with self._interruption.held_back():
                self._show(News(self.name, phase.name, trial.number, evaluation, in_all, dev_loss))
                # Losses with one seed compare; so a trial is pruned while it trains with its first seed, or not at all.
                if first_seed and phase.report(trial, evaluation, dev_loss):
                    raise TrialPruned(f"pruned at step {step}")
                self._give_back()
            if evaluation != in_all and (self._plan.is_late() or self._stops()):
                raise Stopped

        try:
            with self._interruption.allowed():
                if place.seeds:
                    outcome = train_seeds(run, place, self._store, report, checkpoints)
                else:
                    outcome = run.train(report, checkpoints)
        except BaseException as error:
            if isinstance(error, Diverged):
                # Told as the worst of pruned trials: the sampler learns from it, and it can never win.
                with suppress(GivenUp):
                    phase.trials.report(trial, next(evaluations), math.inf)
            if isinstance(error, KeyboardInterrupt):
                self._interruption.times = max(1, self._interruption.times)
            return ending_of(error)
        return Ending(TrialState.COMPLETE, outcome=outcome)

    def _may_start(self, phase: Phase, standing: Standing) -> bool:
        """Whether the phase may take a trial, and it is not known already how that would end."""
        if self._stop is not None and self._stop.request(at_once=True):
            return False
        if phase.name == "search" and common_failure(standing, self._plan.ended_before, self._plan.space.distributions):
            return False
        return phase.may_start(standing)

    def _give_back(self) -> None:
        if self._trains_long:
            give_back_connections()

    def _stops(self) -> bool:
        is_asked = self._stop is not None and self._stop.request() is not None
        return self._interruption.times > 0 or is_asked or not self._goes_on()


def _failed(error: Exception) -> Ending:
    """How a trial ended that could not begin."""
    if broken := why_not_recorded(error):
        return Ending(TrialState.FAIL, NOT_RECORDED + broken)
    return Ending(TrialState.FAIL, one_line(error))


def _count_evaluations(run: OpenRun, place: TrialPlace) -> int | None:
    """How many times a trial reports, with all of its seeds; None where its task does not say."""
    each = run.config.task.evaluations
    return each * max(1, len(place.seeds)) if each else None


def worker_name(pid: int, token: str | None = None) -> str:
    """Machine and process of a worker, and a token, so that no other worker has the name."""
    return f"{socket.gethostname()}-{pid}-{token or uuid.uuid4().hex[:8]}"
