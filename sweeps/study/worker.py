"""A worker of a study: takes trials, trains them as Hydra jobs, tells how they ended, until nothing is left to do."""

import itertools
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from omegaconf import DictConfig
from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState

from makemore.train import Diverged
from sweeps.config.messages import one_line
from sweeps.errors import RequestError
from sweeps.search.pruners import make_pruner
from sweeps.search.samplers import make_sampler, suggest
from sweeps.search.space import Setting, Space
from sweeps.study.jobs import Jobs
from sweeps.study.runs import OpenRun, RunOutcome, TrialOf, open_run
from sweeps.task.run_config import read_run_config
from sweeps.tracking.queries import running
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.attributes import INTERRUPTED, REASONS, WARM_START
from sweeps.trials.confirm import ConfirmConfig, confirm_study_name, queue_confirmation
from sweeps.trials.standing import Standing
from sweeps.trials.trials import GivenUp, Trials

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
_GIVEN_UP = "given up as dead"
_POLL_SECONDS = 0.2  # while others run the last trials


@dataclass(frozen=True)
class Plan:
    """What every worker of a study knows; it can be sent to another process or machine."""

    name: str
    storage: str
    cfg: DictConfig
    jobs: Jobs
    space: Space
    parent_id: str  # of the study's run
    n_trials: int
    most_failures: int  # when a study has so many failed trials, no more are started
    seed: int
    confirm: ConfirmConfig
    workers: int
    deadline: float | None  # seconds since the epoch


@dataclass(frozen=True)
class News:
    """What a worker is doing, for whoever shows it."""

    worker: str
    phase: str = "search"  # or "confirm"
    trial: int | None = None  # at work on it
    evaluation: int = 0  # so many times the trial has reported
    evaluations: int | None = None  # of so many, where that is known
    dev_loss: float | None = None
    standing: tuple[int, int] | None = None  # trials finished, and in all
    best: tuple[int, float] | None = None  # trial, dev loss
    failure: str | None = None  # of a trial


@dataclass
class Interruption:
    """SIGINT or SIGTERM: raises KeyboardInterrupt while a model trains, and otherwise waits until it is asked about."""

    times: int = 0
    _training: bool = field(default=False, repr=False)

    @contextmanager
    def watched(self) -> Iterator["Interruption"]:
        """While inside, the signals come here."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def training(self, value: bool = True) -> Iterator[None]:
        """While inside, an interruption raises, or, with False, no longer does."""
        before, self._training = self._training, value
        try:
            if value and self.times:
                raise KeyboardInterrupt
            yield
        finally:
            self._training = before

    def _handle(self, number: int, frame: object) -> None:
        self.times += 1
        if self.times == 1 and self._training:
            raise KeyboardInterrupt


class Stopped(Exception):
    """The time is up, or the process that started the worker is gone; the trial is tried again later."""


@dataclass(frozen=True)
class Phase:
    """Part of a study: whose trials are taken, when, what each trains, and whether a dev loss ends it."""

    name: str
    trials: Trials
    may_start: Callable[[Standing], bool]
    prepare: Callable[[Trial], tuple[Setting, TrialOf]]
    report: Callable[[Trial, int, float], bool]
    total: Callable[[Standing], int]


@dataclass(frozen=True)
class Ending:
    """How a trial ended."""

    state: TrialState
    reason: str = ""  # of one that is not complete
    outcome: RunOutcome | None = None  # of one that is

    @property
    def tags(self) -> dict[str, str]:
        """Of its run."""
        tags = {"trial_state": self.state.name} | ({"reason": self.reason} if self.reason else {})
        return tags | ({"weights_digest": self.outcome.weights_digest} if self.outcome else {})


class Worker:
    """Runs the trials of a study, one after the other."""

    def __init__(
        self, plan: Plan, show: Callable[[News], None], name: str = "", goes_on: Callable[[], bool] = lambda: True
    ) -> None:
        self._plan, self._show, self._goes_on = plan, show, goes_on
        self.name = name or worker_name(os.getpid())
        self._interruption = Interruption()
        self._store = open_tracking(plan.cfg)

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            KeyboardInterrupt: the worker was interrupted; its trial is recorded as such.
        """
        with self._interruption.watched():
            standing = self._search()
            if self._plan.confirm.top and standing.ranking and not self._stops():
                self._confirm(standing)
        if self._interruption.times:
            raise KeyboardInterrupt

    def _search(self) -> Standing:
        plan = self._plan
        sampler = make_sampler(plan.cfg, plan.space, plan.seed, constraint(plan.space, plan.jobs))
        trials = Trials(plan.storage, plan.name, sampler, make_pruner(plan.cfg))

        def may_start(standing: Standing) -> bool:
            return (
                standing.finished + standing.running < plan.n_trials
                and standing.failures < plan.most_failures
                and (sampler.grid is None or standing.count(TrialState.WAITING) > 0)
                and not self._is_late(plan.confirm.expected_seconds(standing, plan.workers))
            )

        def prepare(trial: Trial) -> tuple[Setting, TrialOf]:
            setting = suggest(trial, plan.space)
            warm_start = trial.user_attrs.get(WARM_START)
            searched = tuple(plan.space.distributions)
            return setting, TrialOf(plan.name, trial.number, plan.parent_id, searched, warm_start=warm_start)

        def report(trial: Trial, evaluation: int, dev_loss: float) -> bool:
            return trials.report(trial, evaluation, dev_loss)

        return self._work(Phase("search", trials, may_start, prepare, report, lambda standing: plan.n_trials))

    def _confirm(self, search: Standing) -> None:
        plan = self._plan
        trials = Trials(plan.storage, confirm_study_name(plan.name))
        queue_confirmation(plan.confirm, search, read_run_config(plan.jobs.compose({})).seed, trials)

        def may_start(standing: Standing) -> bool:
            return standing.count(TrialState.WAITING) > 0 and not self._is_late(0.0)

        def prepare(trial: Trial) -> tuple[Setting, TrialOf]:
            number, seed = trial.user_attrs["confirms"], trial.user_attrs["seed"]
            confirmed = search.trials[number]
            setting: Setting = {**confirmed.params, "seed": seed}
            searched = tuple(plan.space.distributions)
            # In the tree of runs it stands under the trial: the study has one child a trial.
            parent_id = confirmed.user_attrs["run_id"]
            return setting, TrialOf(plan.name, number, parent_id, searched, confirm_number=trial.number)

        def report(trial: Trial, evaluation: int, dev_loss: float) -> bool:
            return False  # a run that confirms goes to its end

        def total(standing: Standing) -> int:
            return len(standing.trials) - standing.count(TrialState.FAIL)

        self._work(Phase("confirm", trials, may_start, prepare, report, total))

    def _work(self, phase: Phase) -> Standing:
        """Run trials until none may start and none is running elsewhere, which could still fail."""
        while True:
            trial, standing = phase.trials.take(self.name, phase.may_start)
            best = standing.ranking[0] if phase.name == "search" and standing.ranking else None
            self._show(
                News(
                    self.name,
                    phase.name,
                    trial=trial.number if trial else None,
                    standing=(standing.finished, phase.total(standing)),
                    best=(best.number, best.values[0]) if best else None,
                )
            )
            if trial is not None:
                ending = self._run(phase, trial)
                if ending.state == TrialState.FAIL and ending.reason != INTERRUPTED:
                    failure = f"trial {trial.number} failed: {ending.reason}"
                    self._show(News(self.name, phase.name, failure=failure))
            elif standing.running == 0 or self._is_late(0.0):
                return standing
            else:
                time.sleep(_POLL_SECONDS)
            if self._stops():
                return standing

    def _run(self, phase: Phase, trial: Trial) -> Ending:
        """Run one trial as a Hydra job."""
        ending = Ending(TrialState.FAIL)
        with phase.trials.beating(trial):
            try:
                setting, of = phase.prepare(trial)

                def task(cfg: DictConfig) -> float | None:
                    nonlocal ending
                    try:
                        ending = self._train(phase, trial, cfg, of)
                    except Exception as error:
                        ending = Ending(TrialState.FAIL, f"its end could not be recorded: {one_line(error)}")
                        raise  # Hydra's callbacks are told that the job failed
                    return ending.outcome.dev_loss if ending.outcome else None

                self._plan.jobs.run(setting, task, of.number, of.subdir)
            except Exception as error:  # of the job, not of its task
                ending = Ending(TrialState.FAIL, one_line(error))
                _tell(phase.trials, trial, ending, {})
                return ending
        return ending

    def _train(self, phase: Phase, trial: Trial, cfg: DictConfig, of: TrialOf) -> Ending:
        """Train a trial, and tell MLflow and Optuna how it ended.

        Optuna's word counts: until it is told the MLflow run is open, whatever is in it, and whoever finds it open when
        the trial has ended closes it as Optuna knows it.
        """
        try:
            run = open_run(cfg, lambda: self._store, of)
        except Exception as error:
            ending = Ending(TrialState.FAIL, one_line(error))
            _tell(phase.trials, trial, ending, {})
            return ending
        recorded = ending = self._ending_of(phase, trial, run)
        try:
            run.record(ending.tags)
        except Exception as error:
            ending = Ending(TrialState.FAIL, f"{type(error).__name__}: {error}")
        if not _tell(phase.trials, trial, ending, {"run_id": run.tracked.run_id}):
            ending = Ending(TrialState.FAIL, _GIVEN_UP)
        status = "KILLED" if ending.reason in (INTERRUPTED, _GIVEN_UP) else STATUS[ending.state]
        run.end(status, {} if ending is recorded else ending.tags)
        return ending

    def _ending_of(self, phase: Phase, trial: Trial, run: OpenRun) -> Ending:
        evaluations = itertools.count(1)  # the resource that pruners count in: steps differ between trials

        def report(step: int, dev_loss: float) -> None:
            with self._interruption.training(False):
                done, expected = next(evaluations), run.config.task.evaluations
                self._show(News(self.name, phase.name, trial.number, done, expected, dev_loss))
                if phase.report(trial, done, dev_loss):
                    raise TrialPruned(f"pruned at step {step}")
            if done != expected and (self._is_late(0.0) or not self._goes_on()):
                raise Stopped

        try:
            with self._interruption.training():
                outcome = run.train(report)
        except TrialPruned as error:
            return Ending(TrialState.PRUNED, str(error))
        except Diverged as error:
            # Told as the worst of pruned trials: the sampler learns from it, and it can never win.
            with suppress(GivenUp):
                phase.trials.report(trial, next(evaluations), math.inf)
            return Ending(TrialState.PRUNED, f"{type(error).__name__}: {error}")
        except Stopped:
            return Ending(TrialState.FAIL, INTERRUPTED)
        except KeyboardInterrupt:
            self._interruption.times += 1
            return Ending(TrialState.FAIL, INTERRUPTED)
        except GivenUp:
            return Ending(TrialState.FAIL, _GIVEN_UP)
        except Exception as error:
            return Ending(TrialState.FAIL, f"{type(error).__name__}: {error}")
        return Ending(TrialState.COMPLETE, outcome=outcome)

    def _is_late(self, needed: float) -> bool:
        """Whether fewer than `needed` seconds are left of study.timeout."""
        return self._plan.deadline is not None and time.time() + needed > self._plan.deadline

    def _stops(self) -> bool:
        return self._interruption.times > 0 or not self._goes_on()


def worker_name(pid: int, token: str | None = None) -> str:
    """Machine and process of a worker, and a token, so that no other worker has the name."""
    return f"{socket.gethostname()}-{pid}-{token or uuid.uuid4().hex[:8]}"


def constraint(space: Space, jobs: Jobs) -> Callable[[Setting], bool]:
    """Whether a setting's model has no more weights than the space allows."""
    most = space.most_parameters
    if most is None:
        return lambda setting: True

    def allows(setting: Setting) -> bool:
        try:
            run = read_run_config(jobs.compose(setting))
        except RequestError:  # the trial will say what is wrong
            return True
        return run.task.parameters() <= most

    return allows


def close_dead_runs(store: TrackingStore, study: str, kind: str, standing: Standing) -> None:
    """Close runs that are recorded as running, though their trials have ended: whoever ran them died."""
    for run_id, number in running(store, study, kind):
        trial = standing.trials[number] if number < len(standing.trials) else None
        if trial is not None and trial.state.is_finished():
            tags, status = {"trial_state": trial.state.name}, STATUS[trial.state]
            if trial.state != TrialState.COMPLETE:
                reason = trial.user_attrs.get(REASONS[trial.state])
                tags["reason"] = str(reason or "its worker died")
                if trial.state == TrialState.FAIL and reason in (None, INTERRUPTED):
                    status = "KILLED"
            TrackedRun(store.client, run_id).end(status, tags)


def _tell(trials: Trials, trial: Trial, ending: Ending, attributes: dict[str, str]) -> bool:
    """Tell how a trial ended; False if it had been given up as dead."""
    outcome = ending.outcome
    attributes = attributes | ({REASONS[ending.state]: ending.reason} if ending.reason else {})
    attributes |= {"weights_digest": outcome.weights_digest} if outcome else {}
    try:
        trials.tell(trial, ending.state, outcome.dev_loss if outcome else None, attributes)
    except GivenUp:
        return False
    return True
