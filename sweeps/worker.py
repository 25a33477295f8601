"""A worker of a study: takes trials, trains them as Hydra jobs, tells how they ended, until nothing is left to do."""

import gc
import itertools
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.exceptions import TrialPruned
from optuna.trial import Trial, TrialState

from makemore.train import Diverged
from sweeps.config import one_line, read_run_config
from sweeps.confirm import ConfirmConfig, confirm_study_name, queue_confirmation
from sweeps.errors import RequestError
from sweeps.jobs import Jobs
from sweeps.runs import RunOutcome, TrialOf, open_run
from sweeps.search import make_pruner, make_sampler, suggest
from sweeps.sources import load_source
from sweeps.space import Setting, Space
from sweeps.tracking import TrackingStore
from sweeps.trials import INTERRUPTED, Lost, Standing, Trials

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
_GIVEN_UP = "given up as dead"
_POLL_SECONDS = 0.2  # while others run the last trials


@dataclass(frozen=True)
class Plan:
    """What every worker of a study knows; it can be sent to another process or machine."""

    name: str
    storage: str
    cfg: DictConfig
    hydra_context: HydraContext
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
    progress: float = 0.0  # of the trial, from 0 to 1
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


class TimeIsUp(Exception):
    """Of study.timeout; the trial is tried again when the study goes on."""


class Worker:
    """Runs the trials of a study, one after the other."""

    def __init__(
        self, plan: Plan, show: Callable[[News], None], name: str = "", goes_on: Callable[[], bool] = lambda: True
    ) -> None:
        self._plan, self._show, self._goes_on = plan, show, goes_on
        self.name = name or worker_name(os.getpid())
        self._jobs = Jobs(plan.hydra_context, plan.cfg, plan.space.fixed)
        self._interruption = Interruption()

    def run(self) -> None:
        """Work until nothing is left to do.

        Raises:
            KeyboardInterrupt: the worker was interrupted; its trial is recorded as such.
        """
        gc.collect()
        gc.freeze()  # or each full collection would look at all that was imported: a tenth of a trial's time
        with self._interruption.watched():
            standing = self._search()
            if self._plan.confirm.top and standing.ranking and not self._stops():
                self._confirm(standing)
        if self._interruption.times:
            raise KeyboardInterrupt

    def _search(self) -> Standing:
        plan = self._plan
        allows = constraint(plan.space, self._jobs)
        sampler = make_sampler(plan.cfg, plan.space, plan.seed, allows)
        trials = Trials(plan.storage, plan.name, sampler, make_pruner(plan.cfg))

        def may_start(standing: Standing) -> bool:
            return (
                standing.finished + standing.running < plan.n_trials
                and standing.failures < plan.most_failures
                and not sampler.is_exhausted(trials.study)
                and not self._is_late(plan.confirm.expected_seconds(standing, plan.workers))
            )

        def prepare(trial: Trial) -> tuple[DictConfig, TrialOf]:
            setting = suggest(trial, plan.space)
            cfg = self._jobs.compose(setting, trial.number)
            return cfg, TrialOf(plan.name, trial.number, plan.parent_id, tuple(plan.space.distributions))

        return self._work("search", trials, may_start, prepare, lambda standing: plan.n_trials)

    def _confirm(self, search: Standing) -> None:
        plan = self._plan
        trials = Trials(plan.storage, confirm_study_name(plan.name))
        queue_confirmation(plan.confirm, search, int(plan.cfg.seed), trials)

        def may_start(standing: Standing) -> bool:
            return standing.count(TrialState.WAITING) > 0 and not self._is_late(0.0)

        def prepare(trial: Trial) -> tuple[DictConfig, TrialOf]:
            number, seed = trial.user_attrs["confirms"], trial.user_attrs["seed"]
            setting: Setting = {**search.trials[number].params, "seed": seed}
            cfg = self._jobs.compose(setting, number, subdir=f"confirm/{trial.number}")
            searched = tuple(plan.space.distributions)
            return cfg, TrialOf(plan.name, number, plan.parent_id, searched, confirm_number=trial.number)

        def total(standing: Standing) -> int:
            return len(standing.trials) - standing.count(TrialState.FAIL)

        self._work("confirm", trials, may_start, prepare, total)

    def _work(
        self,
        phase: str,
        trials: Trials,
        may_start: Callable[[Standing], bool],
        prepare: Callable[[Trial], tuple[DictConfig, TrialOf]],
        total: Callable[[Standing], int],
    ) -> Standing:
        """Run trials until none may start and none is running elsewhere, which could still fail."""
        while True:
            trial, standing = trials.take(self.name, may_start)
            best = standing.ranking[0] if phase == "search" and standing.ranking else None
            self._show(
                News(
                    self.name,
                    phase,
                    trial=trial.number if trial else None,
                    standing=(standing.finished, total(standing)),
                    best=(best.number, best.values[0]) if best else None,
                )
            )
            if trial is not None:
                failure = self._run(phase, trials, trial, prepare)
                if failure and failure != INTERRUPTED:
                    self._show(News(self.name, phase, failure=f"trial {trial.number} failed: {failure}"))
            elif standing.running == 0 or self._is_late(0.0):
                return standing
            else:
                time.sleep(_POLL_SECONDS)
            if self._stops():
                return standing

    def _run(
        self, phase: str, trials: Trials, trial: Trial, prepare: Callable[[Trial], tuple[DictConfig, TrialOf]]
    ) -> str | None:
        """Run one trial; returns why it failed, if it did."""
        ended = "how it ended could not be recorded"
        with trials.beating(trial):
            try:
                cfg, of = prepare(trial)
            except Exception as error:
                reason = one_line(error)
                _tell(trials, trial, TrialState.FAIL, attributes={"reason": reason})
                return reason

            def task(job_cfg: DictConfig) -> float | None:
                nonlocal ended
                dev_loss, ended = self._train(phase, trials, trial, job_cfg, of)
                return dev_loss

            self._jobs.run(cfg, task)
        return ended or None

    def _train(
        self, phase: str, trials: Trials, trial: Trial, cfg: DictConfig, of: TrialOf
    ) -> tuple[float | None, str]:
        """Train a trial, and tell Optuna, then MLflow, how it ended; returns its dev loss, and why it failed.

        Optuna first: its word counts, and whoever finds an MLflow run still open closes it accordingly.
        """
        evaluations = itertools.count(1)  # the resource that pruners count in: steps differ between trials

        def report(step: int, dev_loss: float) -> None:
            with self._interruption.training(False):
                done = next(evaluations)
                self._show(News(self.name, phase, trial.number, done / run.config.train.evaluations, dev_loss))
                if phase == "search" and trials.report(trial, done, dev_loss):
                    raise TrialPruned(f"pruned at step {step}")
            if self._is_late(0.0) and done < run.config.train.evaluations:
                raise TimeIsUp

        try:
            run = open_run(cfg, of)
        except Exception as error:
            reason = one_line(error)
            _tell(trials, trial, TrialState.FAIL, attributes={"reason": reason})
            return None, reason
        outcome: RunOutcome | None = None
        try:
            with self._interruption.training():
                outcome = run.train(report)
            state, reason = TrialState.COMPLETE, ""
        except TrialPruned as error:
            state, reason = TrialState.PRUNED, str(error)
        except Diverged as error:
            # Told as the worst of pruned trials: the sampler learns from it, and it can never win.
            trials.report(trial, next(evaluations), math.inf)
            state, reason = TrialState.PRUNED, f"Diverged: {error}"
        except TimeIsUp:
            state, reason = TrialState.FAIL, INTERRUPTED
        except KeyboardInterrupt:
            self._interruption.times += 1
            state, reason = TrialState.FAIL, INTERRUPTED
        except Lost:
            state, reason = TrialState.FAIL, _GIVEN_UP
        except Exception as error:
            state, reason = TrialState.FAIL, f"{type(error).__name__}: {error}"
        attributes = {"run_id": run.tracked.run_id}
        if outcome:
            attributes |= {"weights_digest": outcome.weights_digest}
        if state == TrialState.FAIL:
            attributes |= {"reason": reason}
        if not _tell(trials, trial, state, outcome.dev_loss if outcome else None, attributes):
            state, reason = TrialState.FAIL, _GIVEN_UP
        tags = {"trial_state": state.name} | ({"reason": reason} if reason else {})
        tags |= {"weights_digest": outcome.weights_digest} if outcome else {}
        run.end("KILLED" if reason in (INTERRUPTED, _GIVEN_UP) else STATUS[state], tags)
        return (outcome.dev_loss if outcome else None), (reason if state == TrialState.FAIL else "")

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
        return run.model.parameters(load_source(run.data).alphabet.vocab_size) <= most

    return allows


def close_dead_runs(store: TrackingStore, study: str, kind: str, standing: Standing) -> None:
    """Close runs that are recorded as running, though their trials have ended: whoever ran them died."""
    for run_id, number in store.running(study, kind):
        trial = standing.trials[number]
        if trial.state.is_finished():
            died = trial.state == TrialState.FAIL and trial.user_attrs.get("reason", INTERRUPTED) == INTERRUPTED
            tags = {"trial_state": trial.state.name}
            tags |= {key: str(trial.user_attrs[key]) for key in ("weights_digest", "reason") if key in trial.user_attrs}
            if trial.state == TrialState.FAIL:
                tags.setdefault("reason", "its worker died")
            status = "KILLED" if died else STATUS[trial.state]
            store.run(run_id).end(status, tags)


def _tell(
    trials: Trials,
    trial: Trial,
    state: TrialState,
    dev_loss: float | None = None,
    attributes: dict[str, str] | None = None,
) -> bool:
    """Tell how a trial ended; False if it had been given up as dead."""
    try:
        trials.tell(trial, state, dev_loss, attributes)
    except Lost:
        return False
    return True
