"""Tables of runs, best dev loss first, and who won by how much."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from optuna.trial import TrialState

from sweeps.config.names import check_study_name
from sweeps.databases import hide_password
from sweeps.errors import RequestError
from sweeps.task.run_config import RUN_KEYS
from sweeps.tracking.store import TrackingStore
from sweeps.trials.confirm import ConfirmConfig, confirmations

_FIGURES = ["best_dev_loss", "parameters", "train_seconds", "steps_per_second"]
_IDENTITY = ["run_id", "config_hash", "group_hash", "weights_digest", "dev_words", "diagnosis", "reason"]
_LEVEL = 0.95


def find_study(store: TrackingStore, name: str | int | None, given: str = "study.name is") -> tuple[str, pd.DataFrame]:
    """A study's name and its trials; without a name, the newest study's.

    Args:
        given: how the user gave the name, for messages.

    Raises:
        RequestError: no such study, or one without trials.
    """
    study = store.newest_study() if name is None else str(name)
    if study is None:
        raise RequestError(f"there is no study in {hide_password(store.uri)} yet; start one with makemore sweep")
    check_study_name(study, given)
    runs = store.study_runs(study)
    if runs.empty:
        raise RequestError(
            f"{given} {study}; {hide_password(store.uri)} has no trials of it: see makemore ui, or makemore sweep"
        )
    return study, runs


def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with the lowest dev loss first: whose they are, figures, then the params that differ, then identities.

    Those that did not finish come last: their best figure is that of another amount of training. Study and kind stand
    there where they differ, too.
    """
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *_FIGURES, *_IDENTITY])))
    whose = [key for key in ("study", "kind") if runs[key].nunique(dropna=False) > 1]
    differing = [key for key in runs if is_param(key) and runs[key].nunique(dropna=False) > 1]
    ordered = runs.assign(unfinished=runs["state"] != TrialState.COMPLETE.name)
    ordered = ordered.sort_values(["unfinished", "best_dev_loss", "study", "trial", "run_id"])
    table = ordered[[*whose, "trial", "state", *_FIGURES, *differing, *_IDENTITY]].reset_index(drop=True)
    return with_numbers(table)


def with_numbers(runs: pd.DataFrame) -> pd.DataFrame:
    """Params, which MLflow keeps as text, as numbers where all of a column are."""
    found = {}
    for key in filter(is_param, runs):
        numbers = pd.to_numeric(runs[key], errors="coerce")
        if numbers.notna().equals(runs[key].notna()):
            found[str(key)] = numbers
    return runs.assign(**found)


def is_param(column: object) -> bool:
    """Whether a column holds a part of a run's config, as model.block_size and seed do."""
    return str(column).partition(".")[0] in RUN_KEYS


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Configs without their seeds, lowest mean dev loss first: n seeds, mean, sd, and a t-interval of the mean (95 %).

    Of runs with the same seed, one counts: the others say the same again. A run that confirms a trial and diverged
    makes the mean infinite; what else did not finish is left out.
    """
    from scipy.special import stdtrit

    diverged = (runs["kind"] == "confirm") & (runs["state"] == TrialState.PRUNED.name)
    losses = runs["best_dev_loss"].mask(diverged, math.inf)
    counted = runs.assign(best_dev_loss=losses)[diverged | (runs["state"] == TrialState.COMPLETE.name)]
    board = leaderboard(counted.dropna(subset="group_hash")).drop_duplicates("config_hash")
    groups = board.groupby("group_hash", sort=False)
    of_setting: dict[str, Any] = {
        "study": groups["study"].agg(_join) if "study" in board else None,
        "trials": groups["trial"].agg(_join),
        "n": groups["best_dev_loss"].size(),
        "mean_dev_loss": groups["best_dev_loss"].mean(),
        "sd": groups["best_dev_loss"].std(),
    }
    figures = pd.DataFrame({key: value for key, value in of_setting.items() if value is not None})
    figures["sd"] = figures["sd"].where(figures["mean_dev_loss"] < math.inf)
    n = figures["n"]
    half = stdtrit((n - 1).where(n > 1), (1 + _LEVEL) / 2) * figures["sd"] / n**0.5
    figures["mean_low"], figures["mean_high"] = figures["mean_dev_loss"] - half, figures["mean_dev_loss"] + half
    figures["train_seconds"] = groups["train_seconds"].mean()
    best = board.drop_duplicates("group_hash").set_index("group_hash")
    params = [key for key in best if is_param(key) and key != "seed"]
    table = figures.join(best[["parameters", *params, "run_id", "dev_words"]]).reset_index()
    first = [key for key in figures if key != "train_seconds"]
    table = table[[*first, "parameters", "train_seconds", *params, "run_id", "group_hash", "dev_words"]]
    return table.sort_values("mean_dev_loss", kind="stable", ignore_index=True)


def _join(values: "pd.Series[Any]") -> str:
    return ", ".join(dict.fromkeys(values.dropna().astype(str)))


def find_winner(trials: pd.DataFrame, confirmed: pd.DataFrame) -> "pd.Series[Any] | None":
    """The trial of the lowest mean dev loss over fresh seeds or, where none is confirmed, of the lowest dev loss.

    Of equal ones, the first. None if no trial is complete.
    """
    ranking = leaderboard(trials[trials["state"] == "COMPLETE"])
    if not confirmed.empty:
        ranking = ranking[ranking["trial"] == confirmed["trial"].iloc[0]]
    return None if ranking.empty else ranking.iloc[0]


def find_confirmations(store: TrackingStore, study: str, trials: pd.DataFrame) -> pd.DataFrame:
    """What the fresh seeds said about a study's best trials; see `confirmations`."""
    tags = store.study_tags(study)
    config = ConfirmConfig(int(tags.get("confirm_top", 0)), int(tags.get("confirm_seeds", 1)))
    return confirmations(trials, store.study_runs(study, "confirm"), config)


@dataclass(frozen=True)
class Study:
    """A study's trials, and what fresh seeds said of the best of them."""

    name: str
    trials: pd.DataFrame
    confirmed: pd.DataFrame

    @property
    def winner(self) -> "pd.Series[Any] | None":
        """The row of its winner."""
        return find_winner(self.trials, self.confirmed)

    @property
    def line(self) -> dict[str, Any]:
        """What it comes to."""
        winner, best = self.winner, self.confirmed.head(1)
        complete = self.trials.loc[self.trials["state"] == "COMPLETE", "best_dev_loss"]
        return {
            "study": self.name,
            "trials": len(self.trials),
            "complete": len(complete),
            "best_dev_loss": complete.min(),
            "winner": None if winner is None else winner["trial"],
            "confirmed_mean": best["mean"].squeeze() if len(best) else None,
            "confirmed_sd": best["sd"].squeeze() if len(best) else None,
        }


def read_study(store: TrackingStore, name: str, trials: pd.DataFrame | None = None) -> Study:
    """A study from its runs in MLflow; `trials` are its `study_runs`, where they have been read already."""
    trials = store.study_runs(name) if trials is None else trials
    return Study(name, trials, find_confirmations(store, name, trials))


_PATTERNS = {
    **dict.fromkeys(["best_dev_loss", "confirmed_mean", "confirmed_sd", "mean_dev_loss", "sd"], "{:.4f}"),
    **dict.fromkeys(["mean_low", "mean_high", "dev_loss", "dev_loss_low", "dev_loss_high"], "{:.4f}"),
    **dict.fromkeys(["difference", "difference_low", "difference_high"], "{:+.4f}"),
    "parameters": "{:.0f}",
    "train_seconds": "{:.2f}",
    "steps_per_second": "{:.0f}",
}
_SHORT = {"best_dev_loss": "dev_loss", "train_seconds": "seconds"}


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: short names, few digits, all text."""
    shown = {
        _SHORT.get(key, key): [_format(value, _PATTERNS.get(key)) for value in table[key]] for key in map(str, table)
    }
    return pd.DataFrame(shown)


def _format(value: Any, pattern: str | None) -> str:
    if pd.isna(value):
        return "-"
    if pattern is None and isinstance(value, float):
        pattern = "{:.0f}" if value.is_integer() and abs(value) < 1e6 else "{:.3g}"
    return (pattern or "{}").format(value)


def to_text(table: pd.DataFrame) -> str:
    """A table for a terminal."""
    return str(formatted(table).to_string(index=False))


def to_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, with all digits."""
    plain = table.astype(object).where(table.notna(), None)
    plain = plain.map(lambda cell: " ".join(cell.replace("|", "\\|").split()) if isinstance(cell, str) else cell)
    return str(plain.to_markdown(index=False, missingval="-"))


def to_csv(table: pd.DataFrame) -> str:
    """A table as comma-separated values, with all digits."""
    return str(table.to_csv(index=False)).rstrip("\n")


def to_json(table: pd.DataFrame) -> str:
    """A table as a JSON list of objects, with all digits."""
    return str(table.to_json(orient="records", indent=2, double_precision=15))
