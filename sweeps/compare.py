"""Runs of a study as a table, and who won by how much."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from makemore.limits import LimitError, check
from sweeps.config import read_node
from sweeps.confirm import ConfirmConfig, confirmations
from sweeps.errors import RequestError
from sweeps.records import hide_password
from sweeps.tracking import TrackingStore, open_tracking

FORMATS = ("table", "csv", "json", "markdown")
_FIGURES = ["best_dev_loss", "parameters", "train_seconds", "steps_per_second"]
_IDENTITY = ["run_id", "config_hash", "weights_digest", "reason"]
_CURVE = ["train_loss", "dev_loss", "lr", "best_step", "evaluation_seconds", "trial_number"]
_TOP = 5


@dataclass(frozen=True)
class CompareConfig:
    """How the table is printed."""

    format: str
    top: int | None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise LimitError("format", self.format, f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        if self.top is not None:
            check("top", self.top, low=1)


def compare(cfg: DictConfig) -> str:
    """What `makemore compare` prints.

    Raises:
        RequestError: an unknown format, or no such study.
    """
    config: CompareConfig = read_node(CompareConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    study, runs = find_study(store, cfg.study.name)
    table = _with_confirmations(leaderboard(runs), find_confirmations(store, study, runs)).head(config.top or len(runs))
    if config.format == "csv":
        return str(table.to_csv(index=False)).rstrip("\n")
    if config.format == "json":
        return str(table.to_json(orient="records", indent=2, double_precision=15))
    table = table.drop(columns=["config_hash", "weights_digest"])
    reached = runs.set_index("trial")["dev_loss"] if "dev_loss" in runs else pd.Series(dtype=float)
    table["best_dev_loss"] = table["best_dev_loss"].fillna(table["trial"].map(reached))  # of a pruned trial: its last
    if table["reason"].isna().all():
        table = table.drop(columns="reason")
    if config.format == "markdown":
        return str(table.to_markdown(index=False))
    return f"study {study}\n{_to_text(table)}"


def _with_confirmations(table: pd.DataFrame, confirmed: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with the means over fresh seeds of the trials that have them."""
    if confirmed.empty:
        return table
    means = confirmed.set_index("trial")
    place = list(table.columns).index("best_dev_loss") + 1
    for name in ("sd", "mean"):
        table.insert(place, f"confirmed_{name}", table["trial"].map(means[name]))
    return table


def find_study(store: TrackingStore, name: str | int | None) -> tuple[str, pd.DataFrame]:
    """A study's name and its trials; without a name, the newest study's.

    Raises:
        RequestError: no such study, or one without trials.
    """
    study = store.newest_study() if name is None else str(name)
    if study is None:
        raise RequestError(f"there is no study in {hide_password(store.uri)} yet; start one with makemore sweep")
    runs = store.study_runs(study)
    if runs.empty:
        raise RequestError(
            f"study.name is {study}; {hide_password(store.uri)} has no trials of it: see makemore ui, or makemore sweep"
        )
    return study, runs


def leaderboard(runs: pd.DataFrame) -> pd.DataFrame:
    """Trials with the lowest dev loss first: figures, then the params that differ among them, then identities.

    Trials that did not finish come last: their best figure is that of another amount of training.
    """
    runs = runs.reindex(columns=list(dict.fromkeys([*runs.columns, *_FIGURES, *_IDENTITY])))
    params = [key for key in runs.columns if key not in {"trial", "state", *_FIGURES, *_IDENTITY, *_CURVE}]
    differing = [key for key in params if runs[key].nunique(dropna=False) > 1]
    ordered = runs.assign(unfinished=runs["state"] != "COMPLETE").sort_values(["unfinished", "best_dev_loss", "trial"])
    table = ordered[["trial", "state", *_FIGURES, *differing, *_IDENTITY]].reset_index(drop=True)
    for key in differing:  # MLflow keeps params as text
        numbers = pd.to_numeric(table[key], errors="coerce")
        if numbers.notna().equals(table[key].notna()):
            table[key] = numbers
    return table


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


def summary(store: TrackingStore, study: str, searched: list[str]) -> str:
    """The end of a sweep: the best five, what fresh seeds say, who won by how much, what to type next."""
    runs = store.study_runs(study)
    confirmed = find_confirmations(store, study, runs)
    winner = find_winner(runs, confirmed)
    assert winner is not None  # whoever calls has seen a complete trial
    counts = ", ".join(f"{count} {str(state).lower()}" for state, count in runs["state"].value_counts().items())
    complete = leaderboard(runs[runs["state"] == "COMPLETE"])
    columns = ["trial", *_FIGURES[:3], *(key for key in searched if key in complete)]
    lines = [
        f"\nstudy {study}: {counts}; the best {min(_TOP, len(complete))} by dev loss (nats per character):\n",
        _to_text(complete[columns].head(_TOP)),
        "",
    ]
    if confirmed.empty:
        lead = complete["best_dev_loss"].diff().iloc[1:2]
        lines += [f"winner: trial {winner.trial}, dev loss {winner.best_dev_loss:.4f}"]
        lines[-1] += "".join(f", {value:.4f} below the next" for value in lead) + " (not confirmed with fresh seeds)"
    else:
        best = confirmed.iloc[0]
        lines += [
            "trained again with fresh seeds; too_good: by how much the search's figure flatters:\n",
            str(confirmed.to_string(index=False, float_format="{:.4f}".format, na_rep="-")),
            "",
            f"winner: trial {winner.trial}, mean dev loss {best['mean']:.4f} (the search said {best.dev_loss:.4f})",
        ]
    return "\n".join(
        [
            *lines,
            f"        run {winner.run_id}, config {winner.config_hash}, weights {str(winner.weights_digest)[:12]}",
            "",
            "next:   " + f"makemore compare study.name={study}",
            f"        makemore sample study.name={study} n=20",
            "        makemore ui",
        ]
    )


def _to_text(table: pd.DataFrame) -> str:
    formats = {
        "best_dev_loss": "{:.4f}",
        "confirmed_mean": "{:.4f}",
        "confirmed_sd": "{:.4f}",
        "parameters": "{:.0f}",
        "train_seconds": "{:.2f}",
        "steps_per_second": "{:.0f}",
    }
    shown = table.rename(columns={"best_dev_loss": "dev_loss", "train_seconds": "seconds"})
    renamed = dict(zip(table.columns, shown.columns, strict=True))
    for key, pattern in formats.items():
        if key in table:
            shown[renamed[key]] = [pattern.format(value) if pd.notna(value) else "-" for value in table[key]]
    return str(shown.to_string(index=False, float_format=lambda value: f"{value:.3g}", na_rep="-"))
