"""Paired differences of dev losses: two models on the same items differ by less than their losses vary."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from makemore.bootstrap import sum_by_unit
from makemore.train import one_thread
from sweeps.errors import RequestError
from sweeps.reports.intervals import Interval, mean_over_seeds, means
from sweeps.reports.recorded import load_recorded
from sweeps.reports.settings import SettingResults
from sweeps.task.item_losses import DEV_LOSSES, read_item_losses, read_units
from sweeps.task.recorded import read_recorded_config
from sweeps.tracking.artifacts import fetch_artifact, find_artifact
from sweeps.tracking.datasets import dataset_digest
from sweeps.tracking.queries import RunRecord
from sweeps.tracking.store import TrackingStore


def differences(store: TrackingStore, runs: Sequence[RunRecord], baseline: RunRecord) -> dict[str, Interval]:
    """Each complete run's dev loss minus the baseline's, paired by item, by run id; negative is better.

    The intervals draw the same items for all runs.

    Raises:
        RequestError: the baseline did not finish, a run has other dev items, or losses must be computed and the list of
            words has changed since.
    """
    if baseline.state != "COMPLETE":
        raise RequestError(
            f"baseline is {baseline.run_id}; that run is {baseline.state}, and only a complete one has losses to pair"
        )
    _check_same_items(runs, baseline)
    finished = [run for run in runs if run.state == "COMPLETE"]
    if not finished:
        return {}
    losses, terms = dev_losses(store, [baseline, *finished], baseline.dev_digest, lambda: _dev_items(store, baseline))
    rows = means(losses[:, 1:] - losses[:, :1], terms)
    return dict(zip([run.run_id for run in finished], rows, strict=True))


def setting_differences(store: TrackingStore, results: SettingResults, baseline: RunRecord) -> dict[str, Interval]:
    """Each setting's mean dev loss minus that of the baseline's setting, by group hash; negative is better.

    The means are over seeds and items, and so are the 95 % intervals, see `mean_over_seeds`. A setting with one seed
    has no interval.

    Raises:
        RequestError: see `differences`; or the baseline's setting has no complete run here.
    """
    _check_same_items([run for row in results.rows for run in row.runs], baseline)
    complete = {row.group: [run for run in row.runs if run.state == "COMPLETE"] for row in results.rows}
    diverged = {row.group for row in results.rows if len(complete[row.group]) < len(row.runs)}
    group = baseline.tags.get("group_hash", "")
    if not complete.get(group) or group in diverged:
        raise RequestError(
            f"baseline is {baseline.run_id}; its setting has no mean dev loss among the settings compared: name its "
            "study too, as in studies=[A,B]"
        )
    runs = [run for group in complete for run in complete[group]]
    losses, terms = dev_losses(store, runs, baseline.dev_digest, lambda: _dev_items(store, baseline))
    columns = dict(zip([run.run_id for run in runs], losses.T, strict=True))
    by_group = {
        group: torch.stack([columns[run.run_id] for run in complete[group]]) for group in complete if complete[group]
    }
    return {
        other: mean_over_seeds(by_group[other], terms, by_group[group])
        for other in by_group
        if other != group and other not in diverged
    }


def _check_same_items(runs: Sequence[RunRecord], baseline: RunRecord) -> None:
    for run in runs:
        if run.dev_digest is not None and run.dev_digest != baseline.dev_digest:
            raise RequestError(
                f"baseline is {baseline.run_id}; run {run.run_id} has other dev words: losses differ word by word only "
                "on the same data, data.split and data.split_seed"
            )


def _dev_items(store: TrackingStore, run: RunRecord) -> Sequence[str]:
    """The dev items of the list that a run was made with."""
    config = read_recorded_config(fetch_artifact(store, run.run_id, "config.yaml"))
    items, item = config.deal_items(), config.task.item
    if dataset_digest(items, "dev") != run.dev_digest:
        where = items.path or items.name
        raise RequestError(f"baseline is {run.run_id}; {where} is not the list of {item}s that it was made with")
    return items.split.dev


def dev_losses(
    store: TrackingStore, runs: Sequence[RunRecord], dev_digest: str | None, read_items: Callable[[], Sequence[str]]
) -> tuple[Tensor, Tensor]:
    """Each dev item's loss in each run, (n, k), and its number of terms, (n,); float64; a row for each distinct item.

    Losses and terms of equal items, and of items of one group, are summed up: they are resampled together.

    A run that has recorded its losses on these items is believed. For runs that have not, the recorded weights are
    evaluated.

    Args:
        dev_digest: of the items.
        read_items: called for the items if weights must be evaluated.

    Raises:
        RequestError: a run has neither losses nor weights, or the losses are those of another number of items.
    """
    known: dict[str, tuple[Tensor, Tensor]] = {}
    units: Tensor | None = None
    for run in runs:
        if run.run_id in known:
            continue
        recorded = find_artifact(store, run.run_id, DEV_LOSSES) if run.dev_digest == dev_digest else None
        known[run.run_id] = read_item_losses(recorded) if recorded else _evaluate(store, run, read_items())
        units = read_units(recorded) if recorded and units is None else units
        first, terms = known[runs[0].run_id][1], known[run.run_id][1]
        if not torch.equal(first, terms):
            raise RequestError(f"run {run.run_id} and run {runs[0].run_id} have losses of different dev items")
    losses, terms = torch.stack([known[run.run_id][0] for run in runs], dim=1), known[runs[0].run_id][1]
    return (losses, terms) if units is None else (sum_by_unit(losses, units), sum_by_unit(terms, units))


def recorded_dev_losses(store: TrackingStore, runs: Sequence[RunRecord], most: int) -> tuple[Tensor, Tensor]:
    """As `dev_losses`, for those runs that have recorded losses on the first one's items; at most `most` losses."""
    losses: list[Tensor] = []
    terms, units = torch.zeros(0, dtype=torch.float64), None
    for run in runs:
        recorded = find_artifact(store, run.run_id, DEV_LOSSES)
        if recorded is None or run.dev_digest != runs[0].dev_digest:
            continue
        own, own_terms = read_item_losses(recorded)
        if not losses:
            terms, units = own_terms, read_units(recorded)
        if torch.equal(terms, own_terms) and (len(losses) + 1) * len(own) <= most:
            losses.append(own)
    if not losses:
        return torch.zeros(0, 0, dtype=torch.float64), terms
    stacked = torch.stack(losses, dim=1)
    return (stacked, terms) if units is None else (sum_by_unit(stacked, units), sum_by_unit(terms, units))


def _evaluate(store: TrackingStore, run: RunRecord, items: Sequence[str]) -> tuple[Tensor, Tensor]:
    recorded = load_recorded(store, run.run_id)
    with one_thread():
        return recorded.config.task.losses(recorded.trained, items)
