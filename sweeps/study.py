"""A study: Optuna asks and is told, each trial is a Hydra job."""

import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import TrialPruned
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from makemore.limits import check
from makemore.train import Diverged
from sweeps.compare import summary
from sweeps.config import check_study_name, read_node
from sweeps.errors import AllTrialsFailed, RequestError
from sweeps.identity import Identity, identify
from sweeps.records import creating, hide_password, resolve_url
from sweeps.runs import RunOutcome, TrialOf
from sweeps.search import PerTrialSeed, make_pruner, make_sampler
from sweeps.sources import load_source
from sweeps.space import Space, format_override, read_space, read_warm_start
from sweeps.tracking import TrackingStore, open_tracking

optuna.logging.set_verbosity(optuna.logging.WARNING)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def run_study(
    hydra_context: HydraContext, task_function: Callable[..., Any], cfg: DictConfig, arguments: list[str]
) -> None:
    """Bring a study to `study.n_trials` finished trials, starting it or going on with it.

    Args:
        task_function: called by the launcher's jobs as task_function(cfg, trial, report) -> RunOutcome.
        arguments: the overrides of the command line, sweep words among them.

    Raises:
        RequestError: the request is wrong; no trial was started.
        AllTrialsFailed: no trial of the study is complete.
    """
    if cfg.hydra.job.chdir:
        raise RequestError(
            "hydra.job.chdir is true; it must be false: relative paths start at the folder of the command"
        )
    config: StudyConfig = read_node(StudyConfig, cfg, "study")
    storage = resolve_url("study.storage", config.storage, table="studies")
    if storage == resolve_url("tracking.uri", str(cfg.tracking.uri), table="experiments"):
        raise RequestError(
            f"study.storage is {config.storage}, and so is tracking.uri; give each a database of its own"
        )
    space, fixed = read_space(_space_params(cfg), arguments)
    if not space:
        raise RequestError("nothing to search; choose space=quick, or give sweep words such as model.block_size=2,3,4")
    identity = identify(hydra_context, cfg, space, fixed)
    warm_start = read_warm_start(cfg.space.get("warm_start"), space)
    sampler, pruner = make_sampler(cfg, space, config.seed), make_pruner(cfg)
    store = open_tracking(cfg)
    study = _open_study(config, storage, identity, sampler, pruner)
    if not study.get_trials(deepcopy=False) and not sampler.is_grid:
        for setting in warm_start:
            study.enqueue_trial(setting)
    _check_records(study, store)
    parent = store.open_study_run(config.name, {"space": str(cfg.space.name)}, load_source(identity.data))
    trials = _Trials(study, sampler, space, fixed, parent.run_id, task_function)
    try:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=trials.job, config=cfg
        )
        _run_trials(config, trials, launcher.launch)
    except BaseException as error:
        parent.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    parent.end("FINISHED")
    print(summary(config.name, store.study_runs(config.name), list(space)))


def _check_records(study: optuna.Study, store: TrackingStore) -> None:
    """Raise RequestError if the study has trials whose runs are not in this store: its winner would be another one."""
    has_trials = any(trial.state in FINISHED for trial in study.get_trials(deepcopy=False))
    if has_trials and store.find_study_run(study.study_name) is None:
        raise RequestError(
            f"study.name is {study.study_name}; study.storage has trials of it, but tracking.uri has no runs of them "
            "in tracking.experiment: give those it was recorded in, or another study.name"
        )


def _space_params(cfg: DictConfig) -> dict[str, str]:
    params = OmegaConf.select(cfg, "space.params")
    if not isinstance(params, DictConfig):
        raise RequestError(f"space.params is {params!r}; it must have sweep words for keys: see conf/space/")
    return {str(key): str(words) for key, words in params.items()}


def _run_trials(config: "StudyConfig", trials: "_Trials", launch: Callable[..., Any]) -> None:
    """Run one trial after the other until the total, the timeout, or as many failures as there were trials to run."""
    name, total, timeout = config.name, config.n_trials, config.timeout
    finished = sum(trial.state in FINISHED for trial in trials.all())
    to_run, failures, started = total - finished, 0, time.monotonic()
    with tqdm(total=total, initial=finished, unit="trial", desc=name, file=sys.stderr) as progress:
        progress.set_postfix_str(trials.best())
        while finished < total and failures < to_run and not trials.exhausted():
            if timeout is not None and time.monotonic() - started > timeout:
                progress.write(f"study.timeout is over: {timeout:g} s", file=sys.stderr)
                break
            failure = trials.run_next(launch)
            progress.set_postfix_str(trials.best(), refresh=False)
            if failure is None:
                finished += 1
                progress.update()
            else:
                failures += 1
                progress.write(failure, file=sys.stderr)
    if not any(trial.state == TrialState.COMPLETE for trial in trials.all()):
        raise AllTrialsFailed(f"no trial of study {name} is complete: all failed, diverged or were pruned")
    if trials.exhausted():
        print(f"makemore: every point of the grid was tried: {finished} trials", file=sys.stderr)
    elif finished < total:
        print(f"makemore: stopped at {finished} of {total} trials, {failures} failed", file=sys.stderr)


class _Trials:
    """The trials of a study: asks for the next one, runs it as a Hydra job, tells how it ended."""

    def __init__(
        self,
        study: optuna.Study,
        sampler: PerTrialSeed,
        space: Space,
        fixed: list[str],
        parent_id: str,
        task_function: Callable[..., Any],
    ) -> None:
        self.study, self.sampler, self.space, self.fixed = study, sampler, space, fixed
        self.parent_id, self.task_function = parent_id, task_function
        self.trial: Trial

    def run_next(self, launch: Callable[..., Any]) -> str | None:
        """Run one trial; returns what to say if it failed."""
        self.trial = trial = self.study.ask(self.space)
        overrides = [format_override(key, value) for key, value in trial.params.items()]
        try:
            # The folder of a trial keeps its resolved config; only here, so that a single run leaves no folder.
            [job_return] = launch([[*self.fixed, *overrides, "hydra.output_subdir=.hydra"]], trial.number)
        except BaseException:
            self._tell_failed("interrupted")
            raise
        return self._tell(job_return)

    def job(self, cfg: DictConfig) -> float:
        """What the launcher runs: train the trial's config; returns its dev loss."""
        trial = self.trial
        of = TrialOf(self.study.study_name, trial.number, self.parent_id, tuple(self.space))
        evaluations = itertools.count(1)  # the resource that pruners count in: steps differ between trials

        def report(step: int, dev_loss: float) -> None:
            trial.report(dev_loss, next(evaluations))
            if trial.should_prune():
                raise TrialPruned(f"pruned at step {step}")

        try:
            outcome: RunOutcome = self.task_function(cfg, of, report)
        except Diverged as error:
            # Told as the worst of pruned trials: the sampler learns from it, and it can never win.
            trial.report(math.inf, next(evaluations))
            raise TrialPruned(str(error)) from error
        for key in ("run_id", "config_hash", "weights_digest"):
            trial.set_user_attr(key, getattr(outcome, key))
        return outcome.dev_loss

    def all(self) -> list[FrozenTrial]:
        """Every trial that the study has."""
        return self.study.get_trials(deepcopy=False)

    def exhausted(self) -> bool:
        """Whether there is nothing left to try."""
        return self.sampler.is_exhausted(self.study)

    def best(self) -> str:
        """The complete trial of the lowest dev loss, for the progress line; of equal ones, the first."""
        complete = [trial for trial in self.all() if trial.state == TrialState.COMPLETE]
        best = min(complete, key=lambda trial: (trial.value, trial.number), default=None)
        return f"best dev loss {best.value:.4f} (trial {best.number})" if best else ""

    def _tell(self, job_return: JobReturn) -> str | None:
        if job_return.status == JobStatus.COMPLETED:
            self.study.tell(self.trial, job_return.return_value)
            return None
        error = job_return._return_value  # the public property raises it
        if isinstance(error, TrialPruned):
            self.study.tell(self.trial, state=TrialState.PRUNED)
            return None
        reason = f"{type(error).__name__}: {error}"
        self._tell_failed(reason)
        return f"trial {self.trial.number} failed: {reason}"

    def _tell_failed(self, reason: str) -> None:
        self.trial.set_user_attr("reason", reason)
        self.study.tell(self.trial, state=TrialState.FAIL)


@dataclass(frozen=True)
class StudyConfig:
    """Which study, how much of it, and where Optuna keeps it."""

    name: str
    storage: str
    n_trials: int
    seed: int
    timeout: float | None

    def __post_init__(self) -> None:
        check_study_name(self.name)
        check("n_trials", self.n_trials, low=1)
        check("seed", self.seed, low=0, high=2**31)
        if self.timeout is not None:
            check("timeout", self.timeout, low=0, closed="(]")


def _open_study(
    config: StudyConfig, storage: str, identity: Identity, sampler: PerTrialSeed, pruner: BasePruner
) -> optuna.Study:
    try:
        with creating(storage):
            study = optuna.create_study(
                study_name=config.name,
                storage=storage,
                sampler=sampler,
                pruner=pruner,
                direction="minimize",
                load_if_exists=True,
            )
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"study.storage is {hide_password(storage)}; it cannot be used ({reason})") from None
    recorded = study.user_attrs.get("identity")
    if recorded is None:
        study.set_user_attr("identity", identity.record)
    elif difference := identity.difference(recorded):
        raise RequestError(
            f"study.name is {config.name}; that study was started differently ({difference}); "
            "give another study.name, or the settings it was started with"
        )
    return study
