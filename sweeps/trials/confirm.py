"""An honest winner: the best of many noisy trials looks better than it is, so the best few are trained anew."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from makemore.limits import check
from sweeps.trials.standing import Standing
from sweeps.trials.trials import Trials

_OPENING_SECONDS = 1.0  # until the first of the confirming runs has begun


@dataclass(frozen=True)
class ConfirmConfig:
    """How many settings are confirmed, with how many runs each."""

    top: int
    seeds: int

    def __post_init__(self) -> None:
        check("top", self.top, low=0, high=1000)
        check("seeds", self.seeds, low=1, high=1000)

    def expected_seconds(self, standing: Standing, workers: int) -> float:
        """How long one more trial and confirming will take, going by how long the best trials took."""
        best = [trial.duration for trial in standing.ranking[: self.top]]
        seconds = [duration.total_seconds() for duration in best if duration is not None]
        if not seconds:
            return 0.0
        return _OPENING_SECONDS + (1 + math.ceil(len(seconds) * self.seeds / workers)) * max(seconds)


def confirm_study_name(study: str) -> str:
    """Optuna's name for the study that holds the confirming runs: no user's study can have it."""
    return f"{study} (confirm)"


def queue_confirmation(config: ConfirmConfig, search: Standing, seed: int, confirm: Trials) -> None:
    """Queue a run for each of the best settings and each fresh seed, where there is none yet."""
    with confirm.alone() as standing:
        known = {
            (trial.user_attrs["confirms"], trial.user_attrs["seed"])
            for trial in standing.trials
            if trial.state != TrialState.FAIL  # one that is to be tried again has just been queued
        }
        for trial in search.ranking[: config.top]:
            for fresh in fresh_seeds(trial, seed, config.seeds):
                if (trial.number, fresh) not in known:
                    confirm.queue({}, {"confirms": trial.number, "seed": fresh})


def fresh_seeds(trial: FrozenTrial, seed: int, count: int) -> list[int]:
    """Seeds that the trial was not trained with; `seed` is the one of a trial that does not search it."""
    own = int(trial.params.get("seed", seed))
    return [own + offset for offset in range(1, count + 1)]


def confirmations(trials: pd.DataFrame, runs: pd.DataFrame, config: ConfirmConfig) -> pd.DataFrame:
    """Of each of the best settings: trial, dev_loss (the search's), mean, sd, too_good (mean - dev_loss).

    The lowest mean stands first; of equal ones, the first trial. Empty unless all of the best settings have all of
    their runs. A diverged run makes the mean infinite.

    Args:
        trials: the search's, with columns trial, state and best_dev_loss.
        runs: those that confirm, with the same columns; trial is the number of the trial that they confirm.
    """
    columns = ["trial", "dev_loss", "mean", "sd", "too_good"]
    complete = trials[trials["state"] == TrialState.COMPLETE.name]
    best = complete.sort_values(["best_dev_loss", "trial"]).head(config.top)
    rows: list[Mapping[str, Any]] = []
    for number, dev_loss in zip(best["trial"], best["best_dev_loss"], strict=True):
        mine = runs[(runs["trial"] == number) & runs["state"].isin([TrialState.COMPLETE.name, TrialState.PRUNED.name])]
        diverged = mine["state"] == TrialState.PRUNED.name
        losses = mine["best_dev_loss"].mask(diverged, math.inf)
        if len(losses) < config.seeds:
            return pd.DataFrame(columns=columns)
        mean, sd = (math.inf, math.nan) if diverged.any() else (losses.mean(), losses.std())
        rows.append({"trial": number, "dev_loss": dev_loss, "mean": mean, "sd": sd, "too_good": mean - dev_loss})
    return pd.DataFrame(rows, columns=columns).sort_values(["mean", "trial"], ignore_index=True)
