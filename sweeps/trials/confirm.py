"""Confirming a study's best trials: which runs with fresh seeds are queued, and what came of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from makemore.limits import check
from sweeps.trials.standing import Standing
from sweeps.trials.trials import Trials
from sweeps.trials.winner import Confirmation, TrialResult, choose_winner, rank, summarize_confirmations

_OPENING_SECONDS = 1.0  # until the first of the confirming runs has begun


@dataclass(frozen=True)
class ConfirmConfig:
    """How many settings are confirmed, with how many runs each."""

    top: int
    seeds: int

    def __post_init__(self) -> None:
        check("top", self.top, low=0, high=1000)
        check("seeds", self.seeds, low=1, high=1000)

    def expected_seconds(self, standing: Standing, workers: int, search_seeds: int) -> float:
        """How long one more trial and confirming will take, going by how long the best trials took.

        Args:
            search_seeds: how many seeds each trial is trained with; a run that confirms has one.
        """
        durations = [trial.duration for trial in _best_trials(standing, self.top)]
        seconds = [duration.total_seconds() for duration in durations if duration is not None]
        if not seconds:
            return 0.0
        runs = search_seeds + math.ceil(len(seconds) * self.seeds / workers)
        return _OPENING_SECONDS + runs * max(seconds) / search_seeds


def confirm_study_name(study: str) -> str:
    """Optuna's name for the study that holds the confirming runs: no user's study can have it."""
    return f"{study} (confirm)"


def queue_confirmation(config: ConfirmConfig, search: Standing, seeds: Sequence[int], confirm: Trials) -> None:
    """Queue a run for each of the best settings and each fresh seed, unless there is one already."""
    with confirm.alone() as standing:
        known = {
            (trial.user_attrs["confirms"], trial.user_attrs["seed"])
            for trial in standing.trials
            if trial.state != TrialState.FAIL  # a failed run that is to be tried again has just been queued
        }
        for trial in _best_trials(search, config.top):
            for fresh in fresh_seeds(seeds, config.seeds):
                if (trial.number, fresh) not in known:
                    confirm.queue({}, {"confirms": trial.number, "seed": fresh})


def fresh_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """Seeds that no trial of the search was trained with.

    Args:
        seeds: that the search trained each of its settings with.
    """
    return [max(seeds) + offset for offset in range(1, count + 1)]


def search_results(search: Standing) -> list[TrialResult]:
    """How the trials of a search ended, as Optuna has recorded it."""
    return [TrialResult(trial.number, trial.state.name, _dev_loss(trial)) for trial in search.own]


def confirming_results(confirm: Standing) -> list[TrialResult]:
    """How the runs that confirm trials ended, as Optuna has recorded it; `number` is that of the trial confirmed."""
    return [
        TrialResult(int(trial.user_attrs["confirms"]), trial.state.name, _dev_loss(trial)) for trial in confirm.trials
    ]


def confirming_runs(confirm: Standing, trial: int) -> list[dict[str, Any]]:
    """The run_id, seed and weights_digest of each complete run that confirms a trial, in the order of the seeds.

    Args:
        confirm: the runs that confirm the best trials.
        trial: the number of the trial that they confirm.
    """
    runs = [run for run in confirm.trials if run.state == TrialState.COMPLETE and run.user_attrs["confirms"] == trial]
    keys = ("run_id", "seed", "weights_digest")
    return sorted(({key: run.user_attrs[key] for key in keys} for run in runs), key=lambda run: int(run["seed"]))


def study_winner(
    search: Standing, confirm: Standing | None, rule: ConfirmConfig
) -> tuple[TrialResult | None, list[Confirmation]]:
    """The winner of a study as Optuna has recorded it, if there is one yet, and what fresh seeds said.

    Args:
        confirm: the runs that confirm the best trials; None if none was started.
        rule: how many are confirmed, with how many seeds.
    """
    results = search_results(search)
    confirming = confirming_results(confirm) if confirm else []
    confirmations = summarize_confirmations(results, confirming, rule.top, rule.seeds)
    return choose_winner(results, confirmations), confirmations


def _best_trials(search: Standing, top: int) -> list[FrozenTrial]:
    return [search.trials[result.number] for result in rank(search_results(search))[:top]]


def _dev_loss(trial: FrozenTrial) -> float:
    return float(trial.values[0]) if trial.state == TrialState.COMPLETE else math.nan
