"""What a command asks of a study: read and checked as a whole, before anything is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config.names import check_groups, check_study_name
from sweeps.config.reading import read_node
from sweeps.databases import check_folder, hide_password, resolve_url
from sweeps.errors import RequestError
from sweeps.reports.studies import read_study
from sweeps.search.pruners import make_pruner
from sweeps.search.samplers import StudySampler, make_sampler, tries_all
from sweeps.search.space import Setting, Space, SpaceConfig, read_space, read_warm_start
from sweeps.study.identity import Identity, identify
from sweeps.study.jobs import Jobs
from sweeps.study.network_folder import check_network_folder
from sweeps.study.on_end import HooksConfig, read_hooks
from sweeps.study.same_study import check_default_name, check_same
from sweeps.study.start_from import Inheritance, inherit
from sweeps.study.weight_limit import weight_limit
from sweeps.task.run_config import read_run_config
from sweeps.tracking.queries import find_study_run, restore_with
from sweeps.tracking.store import TrackingStore, find_tracking
from sweeps.trials.confirm import ConfirmConfig
from sweeps.trials.trials import Trials, find_trials


@dataclass(frozen=True)
class StudyConfig:
    """The checked keys of `study`: its name, its storage, its budget and how its winner is confirmed."""

    name: str
    storage: str
    n_trials: int
    seeds: int
    seed: int
    workers: int | None
    workers_per_job: int
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
        check("workers_per_job", self.workers_per_job, low=1, high=1000)
        if self.start_from is not None:
            check_study_name(self.start_from, "study.start_from is")
        if self.patience is not None:
            check("patience", self.patience, low=1)
        if self.timeout is not None:
            check("timeout", self.timeout, low=0, closed="(]")


@dataclass(frozen=True)
class StudyRequest:
    """A request that was found to be right; nothing has been made for it yet."""

    cfg: DictConfig
    arguments: list[str]  # the overrides of the command line
    config: StudyConfig
    storage: str  # a resolved URL
    space: Space
    jobs: Jobs
    hooks: HooksConfig
    seeds: tuple[int, ...]
    identity: Identity
    in_full: bool  # whether every setting of the space is tried
    sampler: StudySampler
    warm_start: list[tuple[str, Setting]]  # names and settings that are tried first, within the constraints
    inheritance: Inheritance | None  # what a new study takes over from an older one


def read_request(hydra_context: HydraContext, cfg: DictConfig, arguments: list[str]) -> StudyRequest:
    """The request that a command makes; nothing is written.

    Raises:
        RequestError: the request is wrong.
    """
    check_groups(arguments)
    if cfg.run is not None:
        raise RequestError(f"run is {cfg.run}; a study has many runs: makemore train run={cfg.run} repeats one")
    config: StudyConfig = read_node(StudyConfig, cfg, "study")
    hooks = read_hooks(cfg)
    storage = _check_places(cfg, config)
    space, warm_start = _read_space(hydra_context, cfg, arguments, config.seeds)
    jobs = Jobs(hydra_context, cfg, space.fixed)
    seeds = _choose_seeds(config, space, jobs)
    identity = identify(jobs, space, config.confirm, seeds)
    allows = weight_limit(space, jobs)
    in_full = tries_all(cfg, space, config.n_trials)
    sampler = make_sampler(cfg, space, config.seed, allows, in_full)
    make_pruner(cfg, in_full)  # only checks the config: each worker makes its own pruner
    check_default_name(config.name, cfg, storage, identity)
    started = check_recorded(config, identity, lambda: find_trials(config.name, storage), lambda: find_tracking(cfg))
    places = [("study.storage", storage), ("tracking.uri", _tracking_url(cfg))]
    check_network_folder(places, config.name, str(cfg.hydra.runtime.choices["hydra/launcher"]))
    inheritance = None
    if config.start_from is not None and not started:
        inheritance = inherit(config.start_from, storage, identity.record, space)
    return StudyRequest(
        cfg=cfg,
        arguments=arguments,
        config=config,
        storage=storage,
        hooks=hooks,
        space=space,
        jobs=jobs,
        seeds=seeds,
        identity=identity,
        in_full=in_full,
        sampler=sampler,
        warm_start=[(name, setting) for name, setting in warm_start if allows(setting)],
        inheritance=inheritance,
    )


def check_recorded(
    config: StudyConfig,
    identity: Identity,
    find: Callable[[], Trials | None],
    find_store: Callable[[], TrackingStore | None],
) -> bool:
    """Whether the study was started before; nothing is written.

    Args:
        find: gives the trials of the study, if study.storage has it.
        find_store: gives the MLflow store, if there is one yet.

    Raises:
        RequestError: the study is closed or was started differently, or one of the two databases lacks it.
    """
    # Another process may be starting the study. It makes the study before the run, so here the run is read first.
    store = find_store()
    run = find_study_run(store, config.name, deleted=True) if store is not None else None
    trials, recorded = find(), None
    if trials is not None:
        trials.check_open()
        recorded = trials.study.user_attrs.get("identity")
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
    if trials is not None and trials.standing().finished and not run and not _has_run(find_store(), config.name):
        raise RequestError(  # without those runs another trial would win
            f"study.name is {config.name}; study.storage has trials of it, but tracking.uri has no runs of them "
            "in tracking.experiment: give the two that it was recorded in, or another study.name"
        )
    return recorded is not None


def _tracking_url(cfg: DictConfig) -> str:
    return resolve_url("tracking.uri", str(cfg.tracking.uri), table="experiments")


def _has_run(store: TrackingStore | None, study: str) -> bool:
    return store is not None and find_study_run(store, study) is not None


def _check_places(cfg: DictConfig, config: StudyConfig) -> str:
    """The resolved URL of study.storage, after a check that it and the folder are usable for a study."""
    if cfg.hydra.job.chdir:
        raise RequestError(
            "hydra.job.chdir is true; it must be false: relative paths start at the folder in which makemore is called"
        )
    if config.workers_per_job > 1 and cfg.hydra.runtime.choices["hydra/launcher"] == "basic":
        raise RequestError(
            f"study.workers_per_job is {config.workers_per_job}; it is for the jobs of a launcher: give "
            "hydra/launcher=..., or study.workers for workers on this machine"
        )
    storage = resolve_url("study.storage", config.storage, table="studies")
    if storage == _tracking_url(cfg):
        raise RequestError(
            f"study.storage is {hide_password(storage)}, and so is tracking.uri; give each a database of its own"
        )
    check_folder("hydra.sweep.dir", str(cfg.hydra.sweep.dir), Path(cfg.hydra.sweep.dir).absolute())
    return storage


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
