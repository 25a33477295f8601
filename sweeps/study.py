"""A study: Optuna asks and is told, each trial is a Hydra job."""

import hashlib
import itertools
import json
import math
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.exceptions import ExperimentalWarning, TrialPruned
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from makemore.limits import LimitError, check
from makemore.train import Diverged
from sweeps.compare import summary
from sweeps.config import one_line, read_run_config
from sweeps.errors import AllTrialsFailed, RequestError
from sweeps.records import make_folder, resolve_url
from sweeps.runs import RunOutcome, TrialOf
from sweeps.sources import load_corpus, load_source
from sweeps.space import Space, corner_overrides, format_override, grid_of, read_space
from sweeps.tracking import open_tracking

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of features that conf/sampler chooses knowingly

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def run_study(
    hydra_context: HydraContext, task_function: Callable[..., Any], cfg: DictConfig, arguments: list[str]
) -> None:
    """Bring a study to `study.n_trials` finished trials, starting it or going on with it.

    Args:
        task_function: called by the launcher's jobs as task_function(cfg, trial) -> RunOutcome.
        arguments: the overrides of the command line, sweep words among them.

    Raises:
        RequestError: the request is wrong; no trial was started.
        AllTrialsFailed: no trial of the study finished.
    """
    settings = _Settings.read(cfg)
    space, fixed = read_space(dict(cfg.space.params), arguments)
    if not space:
        raise RequestError("nothing to search; choose space=quick, or give sweep words such as model.block_size=2,3,4")
    identity = _check_jobs(hydra_context, cfg, space, fixed)
    sampler = _PerTrialSeed(_sampler_factory(cfg, space), settings.seed)
    pruner = _make_pruner(cfg)
    store = open_tracking(cfg.tracking)
    study = _open_study(settings, identity, sampler, pruner)
    parent = store.open_study_run(settings.name, {"space": str(cfg.space.name)}, load_source(identity.data))
    try:
        _run_trials(hydra_context, task_function, cfg, settings, study, sampler, space, fixed, parent.run_id)
    except BaseException as error:
        parent.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    parent.end("FINISHED")
    table = store.study_runs(settings.name)
    print(summary(settings.name, table, list(space)))


def _run_trials(
    hydra_context: HydraContext,
    task_function: Callable[..., Any],
    cfg: DictConfig,
    settings: "_Settings",
    study: optuna.Study,
    sampler: "_PerTrialSeed",
    space: Space,
    fixed: list[str],
    parent_id: str,
) -> None:
    trial: Trial
    of: TrialOf

    def job(trial_cfg: DictConfig) -> float:
        evaluations = itertools.count(1)  # the resource that pruners count in: steps differ between trials

        def report(step: int, dev_loss: float) -> None:
            trial.report(dev_loss, next(evaluations))
            if trial.should_prune():
                raise TrialPruned(f"pruned at step {step}")

        try:
            outcome: RunOutcome = task_function(trial_cfg, of, report)
        except Diverged as error:
            # Told as the worst of pruned trials: the sampler learns from it, and it can never win.
            trial.report(math.inf, next(evaluations))
            raise TrialPruned(str(error)) from error
        for key in ("run_id", "config_hash", "weights_digest"):
            trial.set_user_attr(key, getattr(outcome, key))
        return outcome.dev_loss

    launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=job, config=cfg)
    finished = sum(old.state in FINISHED for old in study.get_trials(deepcopy=False))
    to_run = settings.n_trials - finished
    failures = 0
    started = time.monotonic()
    with tqdm(total=settings.n_trials, initial=finished, unit="trial", desc=settings.name, file=sys.stderr) as progress:
        progress.set_postfix_str(_best(study))
        while finished < settings.n_trials and failures < to_run and not sampler.is_exhausted(study):
            if settings.timeout is not None and time.monotonic() - started > settings.timeout:
                progress.write(f"study.timeout is over: {settings.timeout:g} s", file=sys.stderr)
                break
            trial = study.ask(space)
            of = TrialOf(settings.name, trial.number, parent_id, tuple(space))
            overrides = [format_override(key, value) for key, value in trial.params.items()]
            try:
                # The folder of a trial keeps its resolved config; only here, so that a single run leaves no folder.
                [job_return] = launcher.launch([[*fixed, *overrides, "hydra.output_subdir=.hydra"]], trial.number)
            except BaseException:
                _tell_failed(study, trial, "interrupted")
                raise
            reason = _tell(study, trial, job_return)
            if reason is None:
                finished += 1
                progress.update()
            else:
                failures += 1
                progress.write(f"trial {trial.number} failed: {reason}", file=sys.stderr)
            progress.set_postfix_str(_best(study))
    if not any(old.state == TrialState.COMPLETE for old in study.get_trials(deepcopy=False)):
        raise AllTrialsFailed(f"no trial of study {settings.name} is complete: all failed, diverged or were pruned")
    if finished < settings.n_trials and sampler.is_exhausted(study):
        print(f"makemore: every point of the grid was tried: {finished} trials", file=sys.stderr)
    elif finished < settings.n_trials:
        print(f"makemore: stopped at {finished} of {settings.n_trials} trials, {failures} failed", file=sys.stderr)


def _tell(study: optuna.Study, trial: Trial, job_return: JobReturn) -> str | None:
    """Record how a job ended; returns the reason if it failed."""
    if job_return.status == JobStatus.COMPLETED:
        study.tell(trial, job_return.return_value)
        return None
    error = job_return._return_value  # the public property raises it
    if isinstance(error, TrialPruned):
        study.tell(trial, state=TrialState.PRUNED)
        return None
    reason = f"{type(error).__name__}: {error}"
    _tell_failed(study, trial, reason)
    return reason


def _tell_failed(study: optuna.Study, trial: Trial, reason: str) -> None:
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.FAIL)


def _best(study: optuna.Study) -> str:
    best = best_trial(study.get_trials(deepcopy=False))
    return f"best dev loss {best.value:.4f} (trial {best.number})" if best else ""


def best_trial(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial of the lowest dev loss; of equal ones, the first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


@dataclass(frozen=True)
class _Settings:
    """The checked `study` node."""

    name: str
    n_trials: int
    seed: int
    storage: str
    timeout: float | None

    @classmethod
    def read(cls, cfg: DictConfig) -> "_Settings":
        node = cfg.study
        for key in ("n_trials", "seed"):
            if type(node[key]) is not int:
                raise RequestError(f"study.{key} is {node[key]!r}; it must be an integer")
        if type(node.timeout) not in (int, float, type(None)):
            raise RequestError(f"study.timeout is {node.timeout!r}; it must be a number of seconds, or null")
        try:
            check("study.n_trials", node.n_trials, low=1)
            check("study.seed", node.seed, low=0, high=2**31)
            if node.timeout is not None:
                check("study.timeout", node.timeout, low=0, closed="(]")
        except LimitError as error:
            raise RequestError(str(error)) from None
        name = str(node.name)
        if not re.fullmatch(r"[\w][\w.-]{0,99}", name):
            raise RequestError(f"study.name is {name!r}; it must be 1 to 100 letters, digits, '.', '_' or '-'")
        return cls(name, node.n_trials, node.seed, resolve_url("study.storage", node.storage), node.timeout)


def _check_jobs(hydra_context: HydraContext, cfg: DictConfig, space: Space, fixed: list[str]) -> "_Identity":
    """Compose and check jobs from the corners of the space, before anything starts.

    Raises:
        RequestError: a key that does not exist, or a value of the space that no run accepts.
    """
    runs = []
    for overrides in corner_overrides(space):
        try:
            job_cfg = hydra_context.config_loader.load_sweep_config(cfg, [*fixed, *overrides])
        except HydraException as error:
            raise RequestError(one_line(error)) from None
        runs.append(read_run_config(job_cfg))
        load_corpus(runs[-1].data, runs[-1].model.block_size)
    first = runs[0]
    # A trial may choose among groups with other keys; what all of them share and the space leaves alone is fixed.
    fixed_params = {
        key: value
        for key, value in first.params().items()
        if key not in space and all(run.params().get(key) == value for run in runs)
    }
    split = load_source(first.data).split
    words = {key: repr(distribution) for key, distribution in space.items()}
    content = {part: split.fingerprint(part) for part in ("train", "dev")}
    return _Identity(first.data, {"objective": "dev_loss", "space": words, "params": fixed_params, "data": content})


@dataclass(frozen=True)
class _Identity:
    """What makes two calls the same study: objective, space, fixed params, and the words' fingerprints."""

    data: Any  # the DataConfig
    record: dict[str, Any]

    def difference(self, recorded: dict[str, Any]) -> str:
        """What differs from the recorded identity, in words; empty if nothing does."""
        mine, theirs = _flatten(self.record), _flatten(recorded)
        keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        return "; ".join(f"{key} was {theirs.get(key, 'absent')}, is {mine.get(key, 'absent')}" for key in keys)


def _flatten(record: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for group, value in record.items():
        if isinstance(value, dict):
            flat |= {key if group == "params" else f"{group} {key}": str(item) for key, item in value.items()}
        else:
            flat[group] = str(value)
    flat.pop("data.path", None)  # the content counts, not where it lies
    return flat


def _open_study(settings: _Settings, identity: _Identity, sampler: BaseSampler, pruner: BasePruner) -> optuna.Study:
    make_folder(settings.storage)
    try:
        study = optuna.create_study(
            study_name=settings.name,
            storage=settings.storage,
            sampler=sampler,
            pruner=pruner,
            direction="minimize",
            load_if_exists=True,
        )
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"study.storage is {settings.storage}; it cannot be used ({reason})") from None
    recorded = study.user_attrs.get("identity")
    if recorded is None:
        study.set_user_attr("identity", json.loads(json.dumps(identity.record)))
    elif difference := identity.difference(recorded):
        raise RequestError(
            f"study.name is {settings.name}; that study was started differently ({difference}); "
            "give another study.name, or the settings it was started with"
        )
    return study


def _sampler_factory(cfg: DictConfig, space: Space) -> Callable[..., BaseSampler]:
    make = _instantiate(cfg, "sampler")
    if make.func is GridSampler:
        return partial(GridSampler, grid_of(space))
    _instantiate(cfg, "sampler", make)
    return make  # type: ignore[no-any-return]


def _make_pruner(cfg: DictConfig) -> BasePruner:
    for key, low in (("min_resource", 1), ("reduction_factor", 2)):  # Hyperband would find out in its first trial
        value = cfg.pruner.get(key, low)
        if type(value) is not int or value < low:
            raise RequestError(f"pruner.{key} is {value!r}; it must be an integer >= {low}")
    return _instantiate(cfg, "pruner")  # type: ignore[no-any-return]


def _instantiate(cfg: DictConfig, group: str, make: Callable[..., Any] | None = None) -> Any:
    """What the config of a sampler or pruner stands for; a sampler's is a factory that takes the seed."""
    try:
        return make(seed=0) if make else instantiate(cfg[group])
    except (HydraException, ImportError, TypeError, ValueError) as error:
        raise RequestError(f"{group} cannot be made: {one_line(error)}") from None


class _PerTrialSeed(BaseSampler):
    """A sampler whose draws depend on the study's seed and the trial's number alone.

    A sampler seeded once would, in a resumed study, repeat the trials that the study has.
    """

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed=seed)
        self._one_sequence = isinstance(self._sampler, (GridSampler, QMCSampler))  # kept in the study's storage

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if not self._one_sequence:
            digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
            self._sampler = self._make(seed=int.from_bytes(digest[:4], "big"))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: Any) -> Any:
        return self._sampler.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        if not isinstance(self._sampler, GridSampler):  # that one would stop an `optimize` which is not running
            self._sampler.after_trial(study, trial, state, values)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Whether a grid has no point left to try."""
        return isinstance(self._sampler, GridSampler) and self._sampler.is_exhausted(study)
