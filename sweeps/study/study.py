"""A study from start to end: it is checked, opened, run by workers to its total, confirmed and summarised."""

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.trial import TrialState

from makemore.limits import check
from sweeps.config.command_line import config_dirs, places_of_records, without_passwords
from sweeps.config.messages import reason
from sweeps.config.names import check_groups, check_study_name
from sweeps.config.reading import read_node
from sweeps.databases import check_folder, hide_password, resolve_url
from sweeps.errors import AllTrialsFailed, RequestError
from sweeps.reports.studies import read_study
from sweeps.reports.summary import Asked
from sweeps.search.grid import is_small, points_of
from sweeps.search.pruners import make_pruner
from sweeps.search.samplers import StudySampler, make_sampler, tries_all
from sweeps.search.space import Setting, Space, SpaceConfig, corners, read_space, read_warm_start
from sweeps.search.sweep_words import parse_overrides
from sweeps.study.common_failure import common_failure, count_ended
from sweeps.study.endings import close_dead_runs
from sweeps.study.identity import Identity, identify
from sweeps.study.jobs import Jobs
from sweeps.study.plan import Plan
from sweeps.study.processes import Processes, usable_cores
from sweeps.study.progress import News, ProgressLine
from sweeps.study.record import open_record
from sweeps.study.report import StudyReport
from sweeps.study.same_study import check_default_name, check_same
from sweeps.study.start_from import Inheritance, inherit
from sweeps.study.weight_limit import weight_limit
from sweeps.study.worker import Worker
from sweeps.task.items import Items
from sweeps.task.remarks import print_remarks
from sweeps.task.run_config import read_run_config
from sweeps.task.task import Task
from sweeps.tracking.queries import find_study_run, restore_with, running
from sweeps.tracking.quiet import short_waits
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore, find_tracking, open_tracking
from sweeps.trials.attributes import ASKED, WARM_START
from sweeps.trials.confirm import ConfirmConfig, confirm_study_name
from sweeps.trials.standing import Standing
from sweeps.trials.storage import quiet_optuna
from sweeps.trials.trials import Trials, find_trials, open_trials

_WARM_START = "space.warm_start"
Queued = tuple[Setting, dict[str, Any]]  # a setting to try before the sampler draws any, and its trial's attributes


@dataclass(frozen=True)
class StudyConfig:
    """The checked keys of `study`: its name, its storage, its budget and how its winner is confirmed."""

    name: str
    storage: str
    n_trials: int
    seeds: int
    seed: int
    workers: int | None
    start_from: str | None
    patience: int | None
    timeout: float | None
    confirm: ConfirmConfig
    pictures: bool
    register: bool
    question: str | None

    def __post_init__(self) -> None:
        check_study_name(self.name)
        check("n_trials", self.n_trials, low=1)
        check("seeds", self.seeds, low=1, high=1000)
        check("seed", self.seed, low=0, high=2**31)
        if self.workers is not None:
            check("workers", self.workers, low=1, high=1000)
        if self.start_from is not None:
            check_study_name(self.start_from, "study.start_from is")
        if self.patience is not None:
            check("patience", self.patience, low=1)
        if self.timeout is not None:
            check("timeout", self.timeout, low=0, closed="(]")


def run_study(hydra_context: HydraContext, cfg: DictConfig, arguments: list[str]) -> None:
    """Bring a study to `study.n_trials` finished trials: start it, continue it, or join the processes that run it.

    Args:
        arguments: the overrides of the command line, with the sweep words among them.

    Raises:
        RequestError: the request is wrong; no trial was started.
        AllTrialsFailed: no trial of the study is complete.
    """
    started = time.time()
    check_groups(arguments)
    if cfg.run is not None:
        raise RequestError(f"run is {cfg.run}; a study has many runs: makemore train run={cfg.run} repeats one")
    config: StudyConfig = read_node(StudyConfig, cfg, "study")
    storage = _check_places(cfg, config)
    space, warm_start = _read_space(hydra_context, cfg, arguments, config.seeds)
    jobs = Jobs(hydra_context, cfg, space.fixed)
    seeds = _choose_seeds(config, space, jobs)
    identity = identify(jobs, space, config.confirm, seeds)
    allows = weight_limit(space, jobs)
    in_full = tries_all(cfg, space, config.n_trials)
    sampler = make_sampler(cfg, space, config.seed, allows, in_full)
    make_pruner(cfg, in_full)  # only checks the config before anything starts: each worker makes its own pruner
    # All of it is checked before anything is made.
    started_before = _check_before(config, cfg, storage, identity)
    inheritance = None
    if config.start_from is not None and not started_before:
        inheritance = inherit(config.start_from, storage, identity.record, space)
    store = open_tracking(cfg)
    trials = open_trials(config.name, storage)
    if sampler.grid is not None:
        queue: list[Queued] = [(setting, {}) for setting in sampler.grid]
    else:
        queue = [(setting, {WARM_START: name}) for name, setting in warm_start if allows(setting)]
    if inheritance is not None and inheritance.winner is not None:
        queue.insert(0, (inheritance.winner, {WARM_START: f"the winner of {inheritance.study}"}))
    standing, parent = _open_study(
        config,
        trials,
        identity,
        queue,
        in_full,
        inheritance,
        store,
        open_run=lambda: open_record(store, config.name, cfg, config.confirm, identity, space),
    )
    _close_dead_runs(store, config.name, storage)
    n_trials = _count_trials(config, space, sampler, standing)
    trials.study.set_user_attr(ASKED, n_trials)
    most_failures = standing.failures + max(1, n_trials - standing.finished)
    plan = Plan(
        name=config.name,
        storage=storage,
        cfg=cfg,
        jobs=jobs,
        space=space,
        parent_id=parent.run_id,
        n_trials=n_trials,
        in_full=in_full,
        seeds=seeds,
        most_failures=most_failures,
        ended_before=count_ended(standing),
        seed=config.seed,
        confirm=config.confirm,
        patience=config.patience,
        workers=_count_workers(config, standing),
        deadline=started + config.timeout if config.timeout is not None else None,
    )
    task = read_run_config(jobs.compose(corners(space)[0])).task
    record = _open_report(config, plan, task, identity.items, arguments, store, parent, trials)
    with _recorded(plan, record, store, parent):
        taken = _count_taken(plan) if standing.finished >= n_trials else None
        if taken is None:
            _say_what_is_tried(plan)
            print_remarks(task, identity.items.split.dev)
        _run_workers(plan, record)
        _say_how_it_ended(config, plan, trials.standing())
        if taken is not None and taken == _count_taken(plan):
            _say_that_nothing_was_trained(config, plan, standing.finished, arguments)


@contextmanager
def _recorded(plan: Plan, record: StudyReport, store: TrackingStore, parent: TrackedRun) -> Iterator[None]:
    """While inside, a study runs; at the end it is recorded how it ended, in whatever way."""
    try:
        yield
    except KeyboardInterrupt:
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
            f"({reason(error)}); the same command closes them",
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


def _open_report(
    config: StudyConfig,
    plan: Plan,
    task: Task,
    items: Items,
    arguments: list[str],
    store: TrackingStore,
    parent: TrackedRun,
    trials: Trials,
) -> StudyReport:
    choices = plan.cfg.hydra.runtime.choices
    budget = f"{plan.n_trials} trials asked for, sampler {choices['sampler']}, pruner {choices['pruner']}"
    asked = Asked(config.question, task.unit, type(task).sample is not Task.sample, places_of_records(arguments))
    return StudyReport(
        store,
        parent,
        trials,
        plan.space,
        items,
        budget,
        partial(_accepts, plan.jobs),
        [*config_dirs(plan.cfg), *without_passwords(arguments)],
        config.pictures,
        config.register,
        asked,
    )


def _check_places(cfg: DictConfig, config: StudyConfig) -> str:
    """The resolved URL of study.storage, after a check that it and the folder are usable for a study."""
    if cfg.hydra.job.chdir:
        raise RequestError(
            "hydra.job.chdir is true; it must be false: relative paths start at the folder in which makemore is called"
        )
    storage = resolve_url("study.storage", config.storage, table="studies")
    if storage == resolve_url("tracking.uri", str(cfg.tracking.uri), table="experiments"):
        raise RequestError(
            f"study.storage is {hide_password(storage)}, and so is tracking.uri; give each a database of its own"
        )
    check_folder("hydra.sweep.dir", str(cfg.hydra.sweep.dir), Path(cfg.hydra.sweep.dir).absolute())
    return storage


def _accepts(jobs: Jobs, setting: Setting) -> bool:
    """Whether a run could have a setting."""
    try:
        read_run_config(jobs.compose(setting)).check()
    except (HydraException, RequestError):
        return False
    return True


def _choose_seeds(config: StudyConfig, space: Space, jobs: Jobs) -> tuple[int, ...]:
    """The seeds that each setting is trained with: those of the sweep words, or study.seeds of them from `seed` on."""
    if not space.seeds:
        first = read_run_config(jobs.compose({})).seed
        return tuple(range(first, first + config.seeds))
    if config.seeds not in (1, len(space.seeds)):
        named = ",".join(map(str, space.seeds))
        raise RequestError(
            f"study.seeds is {config.seeds}, but seed={named} names {len(space.seeds)} seeds; give one of the two"
        )
    return tuple(space.seeds)


def _count_trials(config: StudyConfig, space: Space, sampler: StudySampler, standing: Standing) -> int:
    """How many trials the study has in the end: what was asked for, but no setting is tried twice."""
    if sampler.grid is not None:
        left = standing.running + standing.count(TrialState.WAITING)
        return min(config.n_trials, max(1, standing.finished + left))
    return (
        min(config.n_trials, len(points_of(space, config.seed)))
        if is_small(space, config.n_trials)
        else config.n_trials
    )


def _say_what_is_tried(plan: Plan) -> None:
    """Print that the sampler and the pruner have nothing to choose, where that is so."""
    space, seeds = plan.space, f" with seeds {', '.join(map(str, plan.seeds))}" if len(plan.seeds) > 1 else ""
    if not space.distributions:
        only = " ".join(line for line in space.fixed if line.partition("=")[0] in space.single)
        setting = f"{only} is the only setting" if only else "there is only one setting"
        print(f"makemore: nothing is searched: {setting}, which is trained once{seeds}", file=sys.stderr)
    elif plan.in_full:
        print(
            f"makemore: the space has {plan.n_trials} settings; each is trained once{seeds}, to its end "
            "(sampler=tpe pruner=hyperband would search it)",
            file=sys.stderr,
        )


def _say_how_it_ended(config: StudyConfig, plan: Plan, standing: Standing) -> None:
    """Print why there are fewer trials than were asked for, if there are.

    Raises:
        AllTrialsFailed: no trial is complete.
    """
    if reason := common_failure(standing, plan.ended_before, plan.space.distributions):
        raise AllTrialsFailed(
            f"no trial of study {config.name} is complete, and the first ended alike, so no more were started "
            f"({reason}); mend that, with another study.name if a key must change; or try other settings of the space "
            "with the same command again"
        )
    stopped = ""
    if standing.finished < plan.n_trials:
        why = "study.timeout is over"
        if standing.failures >= plan.most_failures:
            why = f"{standing.failures} failed"
        elif plan.is_patient_no_more(standing):
            why = f"none of the last {standing.since_best} is better than trial {standing.ranking[0].number}"
        stopped = f"stopped at {standing.finished} of {plan.n_trials} trials: {why}"
    if not standing.ranking:
        why = stopped or "all failed, diverged or were pruned"
        raise AllTrialsFailed(f"no trial of study {config.name} is complete: {why}")
    if stopped:
        print(f"makemore: {stopped}", file=sys.stderr)
    elif plan.n_trials < config.n_trials:
        print(f"makemore: every setting of the space was tried: {standing.finished} trials", file=sys.stderr)


def _count_taken(plan: Plan) -> int:
    """How many runs the study has started, those that confirm among them."""
    names = (plan.name, confirm_study_name(plan.name)) if plan.confirm.top else (plan.name,)
    standings = [Trials(plan.storage, name).standing() for name in names]
    return sum(len(standing.trials) - standing.count(TrialState.WAITING) for standing in standings)


def _say_that_nothing_was_trained(config: StudyConfig, plan: Plan, finished: int, arguments: list[str]) -> None:
    """Print that a study had nothing left to do, and which keys of the command line therefore had no effect."""
    cure = "; a higher study.n_trials goes on" if plan.n_trials == config.n_trials else ""
    done = f"{finished} of {max(finished, plan.n_trials)} trials were done before"
    asked = f" (study.n_trials is {config.n_trials})" if config.n_trials < finished else ""
    print(f"makemore: {done}{asked}; nothing was trained{cure}", file=sys.stderr)
    keys = dict.fromkeys(override.key_or_group for override in parse_overrides(arguments))
    idle = [key for key in keys if key in ("study.seed", _WARM_START) or key.partition(".")[0] in ("sampler", "pruner")]
    if idle:
        has = "has" if len(idle) == 1 else "have"
        print(f"makemore: {', '.join(idle)} {has} no effect on trials that are done", file=sys.stderr)


def _read_space(
    hydra_context: HydraContext, cfg: DictConfig, arguments: list[str], seeds: int
) -> tuple[Space, list[tuple[str, Setting]]]:
    config: SpaceConfig = read_node(SpaceConfig, cfg, "space")

    def defaults(fixed: list[str]) -> Setting:
        return read_run_config(Jobs(hydra_context, cfg, fixed).compose({})).params()

    space = read_space(config, arguments, defaults)
    if not space.distributions and not space.single and not space.seeds and seeds == 1:
        raise RequestError("nothing to search; choose space=quick, or give sweep words such as model.block_size=2,3,4")
    return space, read_warm_start(config, space)


def _open_study(
    config: StudyConfig,
    trials: Trials,
    identity: Identity,
    queue: list[Queued],
    in_full: bool,
    inheritance: Inheritance | None,
    store: TrackingStore,
    open_run: Callable[[], TrackedRun],
) -> tuple[Standing, TrackedRun]:
    """The standing of the study and its run in MLflow, after starting it or checking that it is the recorded study.

    Args:
        open_run: opens the run in MLflow.

    Raises:
        RequestError: the study is closed or was started differently, or one of the two databases lacks it.
    """
    with trials.alone() as standing:
        if not _check_recorded(config, identity, trials, store):
            if inheritance is not None:
                trials.take_over(inheritance.trials)
                trials.study.set_user_attr("start_from", inheritance.study)
                count = f"{len(inheritance.trials)} trials of study {inheritance.study}"
                print(f"makemore: the sampler learns from {count}; they are not counted", file=sys.stderr)
            _queue(trials, standing, queue)
            trials.study.set_user_attr("identity", identity.record)
        elif in_full:  # it may have been started with too few trials to try every setting
            _queue(trials, standing, queue)
        return trials.standing(), open_run()


def _queue(trials: Trials, standing: Standing, queue: list[Queued]) -> None:
    """Queue the settings that no trial has: a process that was killed may have queued some of them already."""
    known = [{**trial.system_attrs.get("fixed_params", {}), **trial.params} for trial in standing.own]
    for setting, attributes in queue:
        if setting not in known:
            known.append(setting)
            trials.queue(setting, attributes)


def _check_before(config: StudyConfig, cfg: DictConfig, storage: str, identity: Identity) -> bool:
    """As `_check_recorded`, before anything is opened or made."""
    check_default_name(config.name, cfg, storage, identity)
    return _check_recorded(config, identity, find_trials(config.name, storage), find_tracking(cfg))


def _check_recorded(
    config: StudyConfig, identity: Identity, trials: Trials | None, store: TrackingStore | None
) -> bool:
    """Whether the study was started before; nothing is written.

    Args:
        trials: of the study, if study.storage has it.
        store: the MLflow store, if there is one yet.

    Raises:
        RequestError: the study is closed or was started differently, or one of the two databases lacks it.
    """
    recorded = None
    if trials is not None:
        trials.check_open()
        recorded = trials.study.user_attrs.get("identity")
    run = find_study_run(store, config.name, deleted=True) if store is not None else None
    if run is not None and run.is_deleted:
        raise RequestError(
            f"study.name is {config.name}; its run in MLflow was deleted: {restore_with([run.run_id])}; or give "
            "another study.name"
        )
    if store is not None and run:
        read_study(store, config.name).winner  # noqa: B018 - the property raises what is wrong with the winner's run
    if recorded is None and run:
        raise RequestError(
            f"study.name is {config.name}; tracking.uri has runs of it, but study.storage has no such study: "
            "give the study.storage it was recorded in, or another study.name"
        )
    if recorded is not None:
        check_same(config.name, identity, recorded, run)
    before = trials.study.user_attrs.get("start_from") if trials is not None and recorded is not None else None
    if recorded is not None and config.start_from not in (None, before):
        how = f"from {before}" if before else "without it"
        raise RequestError(
            f"study.start_from is {config.start_from}; study {config.name} was started {how}: leave it out, or give "
            "another study.name"
        )
    if trials is not None and trials.standing().finished and not run:
        raise RequestError(  # without those runs another trial would win
            f"study.name is {config.name}; study.storage has trials of it, but tracking.uri has no runs of them "
            "in tracking.experiment: give the two that it was recorded in, or another study.name"
        )
    return recorded is not None


def _count_workers(config: StudyConfig, standing: Standing) -> int:
    """The number of workers: `study.workers` or the usable cores, but no more than there are trials left to run."""
    most = max(1, config.n_trials - standing.finished, config.confirm.top * config.confirm.seeds)
    return min(config.workers or usable_cores(), most)


def _run_workers(plan: Plan, record: StudyReport) -> None:
    """Run the workers in this process, in processes of their own, or as jobs of the launcher that the user chose."""
    if plan.cfg.hydra.runtime.choices["hydra/launcher"] != "basic":
        _launch_workers(plan)
        return
    line = ProgressLine(plan.name)

    def show(news: News) -> None:
        line.show(news)
        if news.standing:  # a worker is between two trials
            record.update_if_due()

    try:
        if plan.workers == 1:
            Worker(plan, show).run()
            return
        Processes(plan, show, line.gone, partial(_bury, plan)).run(meanwhile=record.prepare)
    finally:
        line.close()


def _bury(plan: Plan, worker: str) -> None:
    for name in (plan.name, confirm_study_name(plan.name)):
        Trials(plan.storage, name).bury(worker)


def _launch_workers(plan: Plan) -> None:
    """Run each worker of the study as a job of Hydra's launcher."""
    sent = replace(plan, storage="")  # launchers keep what they send in files, and an address may hold a password
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=plan.jobs.hydra_context, task_function=LaunchedWorker(sent), config=plan.cfg
    )
    name = plan.cfg.hydra.runtime.choices["hydra/launcher"]
    print(f"makemore: {plan.workers} workers run as jobs of hydra/launcher={name}; see makemore ui", file=sys.stderr)
    overrides = [*plan.space.fixed, "hydra.sweep.subdir=workers/${hydra.job.num}"]
    for job_return in launcher.launch([overrides] * plan.workers, 0):
        if job_return.status == JobStatus.FAILED:
            with redirect_stderr(io.StringIO()):  # it also prints the job's overrides
                job_return.return_value  # noqa: B018 - the property raises what the job raised


@dataclass(frozen=True)
class LaunchedWorker:
    """The task function of a launcher's job, which may run in another process or on another machine."""

    plan: Plan

    def __call__(self, cfg: DictConfig) -> None:
        """Run a worker until the study has nothing left to do."""
        quiet_optuna()
        storage = resolve_url("study.storage", str(self.plan.cfg.study.storage), table="studies")
        Worker(replace(self.plan, storage=storage), lambda news: None).run()


def _close_dead_runs(store: TrackingStore, name: str, storage: str) -> None:
    for kind, study in (("trial", name), ("seed", name), ("confirm", confirm_study_name(name))):
        if running(store, name, kind):
            close_dead_runs(store, name, kind, Trials(storage, study).standing())
