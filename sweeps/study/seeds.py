"""A trial that trains its setting with several seeds: a run for each, and their mean as the trial's dev loss."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from omegaconf import DictConfig, OmegaConf

from sweeps.study.checkpoints import Checkpoints
from sweeps.study.endings import ending_of
from sweeps.study.runs import Fit, OpenRun, RunOutcome, TrialPlace, open_run
from sweeps.tracking.quiet import short_waits
from sweeps.tracking.store import TrackingStore


def train_seeds(
    trial: OpenRun,
    place: TrialPlace,
    store: TrackingStore,
    report: Callable[[int, float, bool], None],
    checkpoints: Checkpoints | None = None,
) -> RunOutcome:
    """The outcome of a trial: the mean over its seeds, with the weights of the seed that has the lowest dev loss.

    Each seed's training is a run of its own under the trial's run, which gets the first seed's curve and each dev
    item's mean loss.

    Args:
        report: called with the step and the dev loss of each evaluation, and whether it is of the first seed; what it
            raises ends the trial.

    Raises:
        Exception: what training or `report` raised; the seed's run is closed.
    """
    fits: list[Fit] = []
    for seed in place.seeds:
        seed_place = replace(place, parent_id=trial.tracked.run_id, seeds=(), seed=seed)
        run = open_run(_with_seed(trial.cfg, seed), lambda: store, seed_place)
        first = seed == place.seeds[0]

        def report_seed(step: int, dev_loss: float, first: bool = first) -> None:
            if first:
                trial.tracked.log_metrics({"dev_loss": dev_loss}, step)
            report(step, dev_loss, first)

        try:
            fits.append(run.fit(report_seed, checkpoints))
            outcome = run.keep(fits[-1])
        except BaseException as error:
            ending = ending_of(error)
            with short_waits() if isinstance(error, KeyboardInterrupt) else nullcontext():
                run.end(ending.run_status, ending.tags)
            raise
        run.end("FINISHED", {"trial_state": "COMPLETE", "weights_digest": outcome.weights_digest})
    return _keep_mean(trial, fits)


def _with_seed(cfg: DictConfig, seed: int) -> DictConfig:
    changed = cfg.copy()
    OmegaConf.update(changed, "seed", seed)
    return changed


def _keep_mean(trial: OpenRun, fits: Sequence[Fit]) -> RunOutcome:
    best = min(fits, key=lambda fit: fit.dev_loss)
    mean = replace(
        best,
        losses=torch.stack([fit.losses for fit in fits]).mean(0),
        train_seconds=sum(fit.train_seconds for fit in fits),
        evaluation_seconds=sum(fit.evaluation_seconds for fit in fits),
    )
    spread = statistics.stdev(fit.dev_loss for fit in fits)
    # Its config is that of the weights, so that whoever has the trial's files can make the same weights again.
    run = replace(trial, cfg=best.run.cfg, config=best.run.config)
    return run.keep(mean, best.dev_loss, {"dev_loss_sd": spread, "weights_dev_loss": best.dev_loss})
