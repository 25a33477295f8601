"""A study from start to end: it is checked, opened, run by workers to its total, confirmed and summarised."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.trial import TrialState

from sweeps.config.command_line import config_dirs, places_of_records, without_passwords
from sweeps.config.messages import one_line
from sweeps.errors import RequestError, StudyStopped
from sweeps.reports.summary import Asked
from sweeps.search.grid import is_small, points_of
from sweeps.search.space import Setting, corners
from sweeps.study.common_failure import count_ended
from sweeps.study.endings import close_dead_runs
from sweeps.study.jobs import Jobs
from sweeps.study.launch import run_workers
from sweeps.study.on_end import told_at_end
from sweeps.study.plan import Plan
from sweeps.study.processes import usable_cores
from sweeps.study.record import open_record
from sweeps.study.remarks import (
    check_not_stopped,
    count_taken,
    say_how_it_ended,
    say_that_nothing_was_trained,
    say_what_is_tried,
)
from sweeps.study.report import StudyReport
from sweeps.study.request import StudyConfig, StudyRequest, check_recorded, read_request
from sweeps.task.remarks import print_remarks
from sweeps.task.run_config import read_run_config
from sweeps.task.task import Task
from sweeps.tracking.queries import running
from sweeps.tracking.quiet import short_waits
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.attributes import ASKED, SEARCHED_WITH, WARM_START
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.standing import Standing
from sweeps.trials.stop import read_stop
from sweeps.trials.trials import Trials, open_trials


def run_study(hydra_context: HydraContext, cfg: DictConfig, arguments: list[str]) -> None:
    """Bring a study to `study.n_trials` finished trials: start it, continue it, or join the processes that run it.

    Args:
        arguments: the overrides of the command line, with the sweep words among them.

    Raises:
        RequestError: the request is wrong; no trial was started.
        AllTrialsFailed: no trial of the study is complete.
    """
    started = time.time()
    request = read_request(hydra_context, cfg, arguments)
    config = request.config
    store = open_tracking(cfg)
    trials = open_trials(config.name, request.storage)
    standing, parent = _open_study(request, trials, store)
    _close_dead_runs(store, config.name, request.storage)
    asked = read_stop(trials)
    plan = _make_plan(request, standing, parent, started, asked.id if asked else None)
    trials.study.set_user_attr(ASKED, plan.n_trials)
    _note_method(trials, standing, plan.cfg)
    task = read_run_config(request.jobs.compose(corners(request.space)[0])).task
    report = _open_report(request, plan, task, store, parent, trials)
    with told_at_end(request.hooks, plan, trials), _recorded(plan, report, store, parent):
        taken = count_taken(plan) if standing.finished >= plan.n_trials else None
        if taken is None:
            say_what_is_tried(plan)
            print_remarks(task, request.identity.items.split.dev)
        run_workers(plan, report)
        check_not_stopped(plan, trials)
        say_how_it_ended(config, plan, trials.standing())
        if taken is not None and taken == count_taken(plan):
            say_that_nothing_was_trained(config, plan, standing.finished, arguments)


def _open_study(request: StudyRequest, trials: Trials, store: TrackingStore) -> tuple[Standing, TrackedRun]:
    """The standing of the study and its run in MLflow, after starting it or checking that it is the recorded study.

    Raises:
        RequestError: the study is closed or was started differently, or one of the two databases lacks it.
    """
    config, identity = request.config, request.identity
    with trials.alone() as standing:
        if not check_recorded(config, identity, lambda: trials, lambda: store):
            if inheritance := request.inheritance:
                trials.take_over(inheritance.trials)
                trials.study.set_user_attr("start_from", inheritance.study)
                count = f"{len(inheritance.trials)} trials of study {inheritance.study}"
                print(f"makemore: the sampler learns from {count}; they are not counted", file=sys.stderr)
            _queue(trials, standing, request)
            trials.study.set_user_attr("identity", identity.record)
    with trials.alone():  # once the study is recorded in its own database, which counts
        parent = open_record(store, config.name, request.cfg, config.confirm, identity, request.space)
        return trials.standing(), parent


def _note_method(trials: Trials, standing: Standing, cfg: DictConfig) -> None:
    """Record the sampler and the pruner; sweeps that continue a study may have others."""
    choices = cfg.hydra.runtime.choices
    before = trials.study.user_attrs.get(SEARCHED_WITH, ["unknown"] if standing.finished else [])
    method = f"{choices['sampler']}/{choices['pruner']}"
    if method not in before:
        trials.study.set_user_attr(SEARCHED_WITH, [*before, method])


def _queue(trials: Trials, standing: Standing, request: StudyRequest) -> None:
    """Queue what is tried first; a process that was killed may have queued some of it already."""
    known = [{**trial.system_attrs.get("fixed_params", {}), **trial.params} for trial in standing.own]
    queue: list[tuple[str, Setting]] = []
    if request.inheritance and request.inheritance.winner is not None:
        queue.append((f"the winner of {request.inheritance.study}", request.inheritance.winner))
    queue += request.warm_start if request.sampler.grid is None else []
    for name, setting in queue:
        if setting not in known:
            known.append(setting)
            trials.queue(setting, {WARM_START: name})


def _make_plan(
    request: StudyRequest, standing: Standing, parent: TrackedRun, started: float, stop_seen: str | None
) -> Plan:
    config = request.config
    n_trials = _count_trials(request, standing)
    return Plan(
        name=config.name,
        storage=request.storage,
        cfg=request.cfg,
        jobs=request.jobs,
        space=request.space,
        parent_id=parent.run_id,
        n_trials=n_trials,
        in_full=request.in_full,
        seeds=request.seeds,
        most_failures=standing.failures + max(1, n_trials - standing.finished),
        stop_seen=stop_seen,
        ended_before=count_ended(standing),
        seed=config.seed,
        confirm=config.confirm,
        patience=config.patience,
        workers=_count_workers(config, standing),
        workers_per_job=config.workers_per_job,
        deadline=started + config.timeout if config.timeout is not None else None,
    )


def _count_trials(request: StudyRequest, standing: Standing) -> int:
    """How many trials the study has in the end: what was asked for, but no setting is tried twice."""
    asked, sampler, space = request.config.n_trials, request.sampler, request.space
    if sampler.grid is not None:
        left = standing.running + standing.count(TrialState.WAITING) + sampler.count_untried(standing.trials)
        return min(asked, max(1, standing.finished + left))
    return min(asked, len(points_of(space, request.config.seed))) if is_small(space, asked) else asked


def _count_workers(config: StudyConfig, standing: Standing) -> int:
    """The number of workers: `study.workers` or the usable cores, but no more than there are trials left to run."""
    most = max(1, config.n_trials - standing.finished, config.confirm.top * config.confirm.seeds)
    return min(config.workers or usable_cores(), most)


def _open_report(
    request: StudyRequest, plan: Plan, task: Task, store: TrackingStore, parent: TrackedRun, trials: Trials
) -> StudyReport:
    choices, config, arguments = plan.cfg.hydra.runtime.choices, request.config, request.arguments
    budget = f"{plan.n_trials} trials asked for, sampler {choices['sampler']}, pruner {choices['pruner']}"
    asked = Asked(config.question, task.unit, type(task).sample is not Task.sample, places_of_records(arguments))
    return StudyReport(
        store,
        parent,
        trials,
        plan.space,
        request.identity.items,
        budget,
        partial(_accepts, plan.jobs),
        [*config_dirs(plan.cfg), *without_passwords(arguments)],
        config.pictures,
        config.register,
        asked,
    )


def _accepts(jobs: Jobs, setting: Setting) -> bool:
    """Whether a run could have a setting."""
    try:
        read_run_config(jobs.compose(setting)).check()
    except (HydraException, RequestError):
        return False
    return True


@contextmanager
def _recorded(plan: Plan, record: StudyReport, store: TrackingStore, parent: TrackedRun) -> Iterator[None]:
    """While inside, a study runs; at the end it is recorded how it ended, in whatever way."""
    try:
        yield
    except (KeyboardInterrupt, StudyStopped):
        with short_waits():
            _attempt_end(lambda: _end(plan, record, store, parent, "KILLED"))
        raise
    except BaseException:
        _attempt_end(lambda: _end(plan, record, store, parent, "FAILED"))
        raise
    _end(plan, record, store, parent, "FINISHED")


def _attempt_end(end: Callable[[], None]) -> None:
    """Record how a study ended that was stopped by something worse than what fails in here."""
    try:
        end()
    except Exception as error:
        print(
            f"makemore: how the study stands could not be recorded, so runs are left RUNNING in MLflow "
            f"({type(error).__name__}: {one_line(error)}); the same command closes them",
            file=sys.stderr,
        )


def _end(plan: Plan, record: StudyReport, store: TrackingStore, parent: TrackedRun, status: str) -> None:
    """Close the runs of dead workers, bring the study's run up to date, print the summary, and close the run."""
    try:
        _close_dead_runs(store, plan.name, plan.storage)
        if text := record.close(finished=status == "FINISHED"):
            print(text)
    finally:
        parent.end(status)


def _close_dead_runs(store: TrackingStore, name: str, storage: str) -> None:
    for kind, study in (("trial", name), ("seed", name), ("confirm", confirm_study_name(name))):
        if running(store, name, kind):
            close_dead_runs(store, name, kind, Trials(storage, study).standing())
