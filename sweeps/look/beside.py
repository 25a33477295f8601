"""What one look evaluates beside the winner's weights: the runs that confirmed it, and the first setting tried.

All of it is read and checked before the look is claimed, so that the evaluation opens no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from optuna.trial import FrozenTrial, TrialState

from makemore.train import Diverged
from sweeps.errors import RequestError
from sweeps.look.candidate import Candidate, load_checked
from sweeps.reports.selection import Selection, find_selection
from sweeps.reports.studies import read_study
from sweeps.study.runs import item_losses
from sweeps.task.recorded import RecordedRun
from sweeps.task.task import Baseline
from sweeps.tracking.store import TrackingStore
from sweeps.trials.standing import Standing


@dataclass(frozen=True)
class Beside:
    """What is compared with the winner's weights, or told with their test loss."""

    confirming: Sequence[RecordedRun]  # the winner's setting with fresh seeds; empty if it was not confirmed
    first: tuple[int, RecordedRun] | None  # the number of the first trial that is complete, and its run
    selection: Selection | None  # the dev loss without the luck of having been chosen
    remarks: Sequence[str]  # what is not compared, and why


def find_beside(store: TrackingStore, candidate: Candidate) -> Beside:
    """What the look evaluates beside the candidate.

    Raises:
        RequestError: the weights of a run that confirmed the winner are gone, or are not those that were recorded.
    """
    remarks = []
    runs = candidate.confirming_runs
    confirming = [load_checked(store, candidate.study, run["run_id"], run["weights_digest"]) for run in runs]
    first = None
    tried = _first_complete(candidate.standing)
    if tried.number == candidate.trial.number:
        remarks.append(f"The winner is trial {tried.number}, the first setting: what tuning gained is not told.")
    else:
        try:
            digest = tried.user_attrs["weights_digest"]
            first = tried.number, load_checked(store, candidate.study, tried.user_attrs["run_id"], digest)
        except RequestError as error:  # the look goes on without it
            why = str(error).removeprefix(f"study.name is {candidate.study}; ")
            remarks.append(f"Trial {tried.number}, the first setting, is not compared: {why}.")
    selection = None
    try:
        selection = find_selection(store, read_study(store, candidate.study).trials)
    except RequestError as error:
        remarks.append(f"The dev loss is not corrected for having been chosen: {error}.")
    return Beside(confirming, first, selection, remarks)


def find_baselines(candidate: Candidate, beside: Beside, items: Sequence[str]) -> tuple[list[Baseline], list[str]]:
    """The task's baselines and the first setting tried, evaluated on items; a remark for each without a finite loss."""
    split, task = candidate.items.split, candidate.run.task
    found, remarks = [], []
    for baseline in task.baselines_for(candidate.trained, split.train, split.dev, items):
        if baseline.losses.shape != (len(items),):
            raise ValueError(
                f"{type(task).__name__}.baselines returned {tuple(baseline.losses.shape)} losses as {baseline.name}; "
                f"it must return {len(items)}, one for each item"
            )
        losses = baseline.losses.detach().cpu().double()
        if torch.isfinite(losses).all():
            found.append(Baseline(baseline.name, losses, baseline.smoothing))
        else:
            remarks.append(f"{baseline.name} is not compared: its loss is infinite.")
    if beside.first is not None:
        number, recorded = beside.first
        try:
            losses, _ = item_losses(recorded.config.task, recorded.trained, items)
            found.append(Baseline(f"trial {number}", losses))
        except Diverged:
            remarks.append(f"Trial {number}, the first setting, is not compared: its loss is infinite.")
    return found, remarks


def _first_complete(standing: Standing) -> FrozenTrial:
    return next(trial for trial in standing.own if trial.state == TrialState.COMPLETE)
