"""Typed results as tables: pandas frames, and the formats that they are printed in."""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sweeps.reports.intervals import Interval
from sweeps.reports.leaderboard import Leaderboard, is_param, outcome, param_keys
from sweeps.reports.settings import SettingResults
from sweeps.reports.studies import StudyLine
from sweeps.reports.text_table import fit_table
from sweeps.tracking.queries import RunRecord
from sweeps.trials.winner import Confirmation

DIFFERENCE = ["difference", "difference_low", "difference_high"]
VERDICT = "verdict"  # what the interval of a difference says: better, worse or undecided
_NO_INTERVAL = Interval(math.nan, math.nan, math.nan)
_METRICS = ["parameters", "train_seconds", "steps_per_second"]


def leaderboard_table(
    board: Leaderboard,
    confirmations: Mapping[str, Confirmation] | None = None,
    differences: Mapping[str, Interval] | None = None,
) -> pd.DataFrame:
    """One row per run: whose it is, its losses and other metrics, the params that differ, then what identifies it.

    Args:
        confirmations: by run id; without any, their columns are left out.
        differences: to a baseline, by run id; with None, their columns are left out.
    """
    runs = board.runs
    columns: dict[str, Any] = {}
    if board.studies_vary:
        columns["study"] = [run.study for run in runs]
    if board.kinds_vary:
        columns["kind"] = [run.kind for run in runs]
    columns["trial"] = pd.array([run.trial for run in runs], dtype="Int64")
    columns["state"] = [outcome(run) for run in runs]
    columns["best_dev_loss"] = _numbers(run.best_dev_loss for run in runs)
    if differences is not None:
        columns |= _difference_columns([differences.get(run.run_id, _NO_INTERVAL) for run in runs])
    if confirmations:
        confirmed = [confirmations.get(run.run_id) for run in runs]
        columns["confirmed_mean"] = _numbers(row.mean if row else None for row in confirmed)
        columns["confirmed_sd"] = _numbers(row.sd if row else None for row in confirmed)
    columns |= {key: _numbers(run.metrics.get(key) for run in runs) for key in _METRICS}
    columns |= _param_columns(runs, runs, board.varying)
    columns["run_id"] = [run.run_id for run in runs]
    columns |= {key: [run.tags.get(key) for run in runs] for key in ("config_hash", "group_hash", "weights_digest")}
    columns["dev_words"] = [run.dev_digest for run in runs]
    columns |= {key: [run.tags.get(key) for run in runs] for key in ("diagnosis", "reason")}
    return pd.DataFrame(columns)


def settings_table(results: SettingResults, differences: Mapping[str, Interval] | None = None) -> pd.DataFrame:
    """One row per setting: its runs, the mean of their losses with its interval, params that differ, identities.

    Args:
        differences: to a baseline, by group hash; with None, their columns are left out.
    """
    rows, board = results.rows, results.board
    best = [row.best for row in rows]
    columns: dict[str, Any] = {}
    if board.studies_vary:
        columns["study"] = [_join(run.study for run in row.runs) for row in rows]
    columns["trials"] = [_join(run.trial for run in row.runs) for row in rows]
    columns["n"] = [len(row.runs) for row in rows]
    columns["mean_dev_loss"] = _numbers(row.mean_dev_loss for row in rows)
    columns["sd"] = _numbers(row.sd for row in rows)
    columns["mean_low"] = _numbers(row.low for row in rows)
    columns["mean_high"] = _numbers(row.high for row in rows)
    if differences is not None:
        columns |= _difference_columns([differences.get(row.group, _NO_INTERVAL) for row in rows])
    columns["parameters"] = _numbers(run.metrics.get("parameters") for run in best)
    columns["train_seconds"] = _numbers(row.train_seconds for row in rows)
    columns |= _param_columns(best, board.runs, [key for key in board.varying if key != "seed"])
    columns["run_id"] = [run.run_id for run in best]
    columns["group_hash"] = [row.group for row in rows]
    columns["dev_words"] = [run.dev_digest for run in best]
    return pd.DataFrame(columns)


def _difference_columns(intervals: Sequence[Interval]) -> dict[str, Any]:
    ends = zip(*((interval.mean, interval.low, interval.high) for interval in intervals), strict=True)
    return dict(zip(DIFFERENCE, map(_numbers, ends), strict=True)) | {VERDICT: [_verdict(row) for row in intervals]}


def _verdict(interval: Interval) -> str | None:
    if math.isnan(interval.low):
        return None
    if interval.low <= 0 <= interval.high:
        return "undecided"
    return "better" if interval.high < 0 else "worse"


def _numbers(values: Iterable[float | None]) -> "pd.Series[float]":
    return pd.Series([math.nan if value is None else value for value in values], dtype=float)


def _join(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _param_columns(shown: Sequence[RunRecord], runs: Sequence[RunRecord], keys: Sequence[str]) -> dict[str, Any]:
    """Params of the shown runs; MLflow keeps them as text, and those that are numbers in all runs become numbers."""
    columns = {}
    for key in keys:
        texts = pd.Series({run.run_id: run.params.get(key) for run in runs}, dtype=object)
        numbers = pd.to_numeric(texts, errors="coerce")
        values = numbers if numbers.notna().equals(texts.notna()) else texts
        columns[key] = values.loc[[run.run_id for run in shown]].to_numpy()
    return columns


def runs_table(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per run, with its trial's number, its best dev loss, how long it trained, and all of its params."""
    columns: dict[str, Any] = {"trial": [run.trial for run in runs]}
    columns["best_dev_loss"] = _numbers(run.best_dev_loss for run in runs)
    columns["train_seconds"] = _numbers(run.metrics.get("train_seconds") for run in runs)
    return pd.DataFrame(columns | _param_columns(runs, runs, param_keys(runs)))


def lines_table(lines: Sequence[StudyLine]) -> pd.DataFrame:
    """One row per study."""
    table = pd.DataFrame([dataclasses.asdict(line) for line in lines])
    return table.assign(winner=table["winner"].astype("Int64"))


def confirmations_table(confirmations: Sequence[Confirmation]) -> pd.DataFrame:
    """One row per trial that was confirmed, with what fresh seeds said about it."""
    return pd.DataFrame([{**dataclasses.asdict(row), "too_good": row.too_good} for row in confirmations])


_PATTERNS = {
    **dict.fromkeys(["best_dev_loss", "confirmed_mean", "confirmed_sd", "mean_dev_loss", "sd"], "{:.4f}"),
    **dict.fromkeys(["mean_low", "mean_high", "dev_loss", "dev_loss_low", "dev_loss_high", "test_loss"], "{:.4f}"),
    **dict.fromkeys(DIFFERENCE, "{:+.4f}"),
    "parameters": "{:.0f}",
    "train_seconds": "{:.2f}",
    "steps_per_second": "{:.0f}",
}
_SHORT = {"best_dev_loss": "dev_loss", "train_seconds": "seconds"}
_SHORTER = {  # where a terminal is narrow
    **{"mean_dev_loss": "mean", "mean_low": "low", "mean_high": "high", "confirmed_mean": "confirmed"},
    **{"looked_at": "looked"},
    **{"dev_loss_low": "low", "dev_loss_high": "high"},
    **{"difference": "diff", "difference_low": "diff_low", "difference_high": "diff_high"},
    **{"steps_per_second": "steps/s", "parameters": "weights", "run_id": "run"},
}
# What a narrow terminal shows first; then come the params, then these, and then all other columns.
_IMPORTANT = (
    *("study", "look", "rung", "data", "kind", "trial", "trials", "n", "state"),
    *("test_loss", "best_dev_loss", "mean_dev_loss", "dev_loss"),
    *("difference", "difference_low", "difference_high", "verdict"),
    *("chosen", "invented", "confirmed_mean", "winner", "looked_at", "complete", "pruned", "failed"),
)
_THEN = ("mean_low", "mean_high", "run_id")


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


def to_text(table: pd.DataFrame, cure: str = "format=csv has all") -> str:
    """A table for a terminal, with as many columns as there is room for; `cure` says how to see all of them."""
    keys = list(map(str, table))
    last = [key for key in keys if not is_param(key)]
    order = dict.fromkeys([*_IMPORTANT, *filter(is_param, keys), *_THEN, *last])
    by_importance = [key for key in order if key in keys]
    names = [_SHORT.get(key, key) for key in by_importance]
    return fit_table(formatted(table), names, short_names(names) | _unique(_SHORTER, names), cure)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, or the whole key where several end alike."""
    return {key: key for key in keys} | _unique({key: key.rpartition(".")[2] for key in keys}, keys)


def _unique(names: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Other names for some keys, without those that several keys would have."""
    counts = Counter(names.get(key, key) for key in keys)
    return {key: names[key] for key in keys if key in names and counts[names[key]] == 1}


def to_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, with all digits."""
    cells = {key: pd.Series([_markdown_cell(cell) for cell in table[key]], dtype=object) for key in table}
    plain = pd.DataFrame(cells)  # of objects: a column of numbers would turn None into NaN
    return str(plain.to_markdown(index=False, missingval="-"))


def _markdown_cell(cell: Any) -> Any:
    if pd.isna(cell):
        return None  # which to_markdown shows as missing
    return " ".join(cell.replace("|", "\\|").split()) if isinstance(cell, str) else cell


def to_csv(table: pd.DataFrame) -> str:
    """A table as comma-separated values, with all digits."""
    return str(table.to_csv(index=False)).rstrip("\n")


def to_json(table: pd.DataFrame) -> str:
    """A table as a JSON list of objects, with all digits."""
    return str(table.to_json(orient="records", indent=2, double_precision=15))
