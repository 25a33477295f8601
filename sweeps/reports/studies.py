"""What a study came to: its trials, what fresh seeds said about the best of them, and its winner."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sweeps.config.names import check_study_name
from sweeps.databases import hide_password
from sweeps.errors import RequestError
from sweeps.tracking.queries import RunRecord, find_study_run, newest_study_run, restore_with, study_runs
from sweeps.tracking.store import TrackingStore
from sweeps.trials.winner import Confirmation, TrialResult, choose_winner, summarize_confirmations

_COUNTED = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


@dataclass(frozen=True)
class StudyLine:
    """A study in one line; losses in nats per character."""

    study: str
    trials: int
    complete: int
    best_dev_loss: float  # NaN if no trial is complete
    winner: int | None
    confirmed_mean: float | None
    confirmed_sd: float | None


@dataclass(frozen=True)
class StudyResults:
    """What MLflow has recorded about a study."""

    name: str
    trials: Sequence[RunRecord]
    confirming: Sequence[RunRecord]  # the runs that confirm trials with fresh seeds
    deleted: Sequence[RunRecord]  # trials and confirming runs that were deleted in the MLflow UI: they still count
    top: int  # how many of the best trials the study confirms
    seeds: int  # with how many runs each
    shown: Mapping[str, float]  # the metrics that its own run has

    @property
    def complete(self) -> list[RunRecord]:
        """Trials that trained to their end."""
        return [run for run in self.trials if run.state == "COMPLETE"]

    @cached_property
    def confirmations(self) -> list[Confirmation]:
        """What fresh seeds said about the best trials, the lowest mean first; empty until all of them are done."""
        confirming = [*self.confirming, *(run for run in self.deleted if run.kind == "confirm")]
        return summarize_confirmations(_results(self._all_trials), _results(confirming), self.top, self.seeds)

    @cached_property
    def winner(self) -> RunRecord | None:
        """The trial that won; None if no trial is complete.

        Raises:
            RequestError: its run was deleted in the MLflow UI.
        """
        result = choose_winner(_results(self._all_trials), self.confirmations)
        complete = [run for run in self._all_trials if run.state == "COMPLETE"]
        winner = next((run for run in complete if result is not None and run.trial == result.number), None)
        if winner is not None and winner.is_deleted:
            raise RequestError(
                f"study.name is {self.name}; the run of its winner, trial {winner.trial}, was deleted in MLflow: "
                + restore_with([winner.run_id])
            )
        return winner

    @property
    def _all_trials(self) -> list[RunRecord]:
        return [*self.trials, *(run for run in self.deleted if run.kind == "trial")]

    @property
    def line(self) -> StudyLine:
        """The study in one line."""
        losses = [run.best_dev_loss for run in self.complete if not math.isnan(run.best_dev_loss)]
        best = self.confirmations[0] if self.confirmations else None
        return StudyLine(
            study=self.name,
            trials=len(self.trials),
            complete=len(self.complete),
            best_dev_loss=min(losses, default=math.nan),
            winner=self.winner.trial if self.winner else None,
            confirmed_mean=best.mean if best else None,
            confirmed_sd=best.sd if best else None,
        )

    @property
    def metrics(self) -> dict[str, float]:
        """What the study's own run shows: counts of its trials, its best and its confirmed dev loss."""
        counts = Counter(run.state for run in self.trials)
        metrics = {"trials": float(len(self.trials))}
        metrics |= {f"trials_{name}": float(counts[state]) for name, state in _COUNTED.items()}
        line = self.line
        losses = {"best_dev_loss": line.best_dev_loss, "confirmed_dev_loss": line.confirmed_mean}
        losses |= {"confirmed_sd": line.confirmed_sd}
        # What was confirmed of an earlier winner is shown no longer.
        known = {key: math.nan if loss is None else loss for key, loss in losses.items()}
        return metrics | {key: loss for key, loss in known.items() if math.isfinite(loss) or key in self.shown}


def read_study(store: TrackingStore, name: str) -> StudyResults:
    """A study from its runs in MLflow; without trials if there is no such study."""
    parent = find_study_run(store, name, deleted=True)
    rule = parent.tags if parent else {}
    trials, confirming = study_runs(store, name, deleted=True), study_runs(store, name, "confirm", deleted=True)
    return StudyResults(
        name=name,
        trials=[run for run in trials if not run.is_deleted],
        confirming=[run for run in confirming if not run.is_deleted],
        deleted=[run for run in (*trials, *confirming) if run.is_deleted],
        top=int(rule.get("confirm_top", 0)),
        seeds=int(rule.get("confirm_seeds", 1)),
        shown=parent.metrics if parent else {},
    )


def find_study(store: TrackingStore, name: str | int | None, given: str = "study.name is") -> StudyResults:
    """The study of a name or, without a name, the newest study.

    Args:
        given: how the user gave the name, for messages.

    Raises:
        RequestError: no such study, or a study without trials.
    """
    if name is None:
        newest = newest_study_run(store)
        if newest is None:
            raise RequestError(f"there is no study in {hide_password(store.uri)} yet; start one with makemore sweep")
        name = newest.tags["study"]
    check_study_name(str(name), given)
    study = read_study(store, str(name))
    if not study.trials:
        raise RequestError(f"{given} {name}; {hide_password(store.uri)} has no trials of it: see makemore studies")
    return study


def _results(runs: Iterable[RunRecord]) -> list[TrialResult]:
    return [TrialResult(run.trial, run.state, run.best_dev_loss) for run in runs if run.trial is not None]
