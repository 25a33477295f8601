"""Runs and studies side by side, as a page with pictures."""

from typing import Any

import numpy as np
import pandas as pd

from sweeps.reports import pictures
from sweeps.reports.comparison import Comparison
from sweeps.reports.leaderboard import data_in_words, is_param, loss_label
from sweeps.reports.tables import formatted
from sweeps.tracking.queries import read_curves
from sweeps.tracking.store import TrackingStore

_CURVES = 30  # the most lines that can be told apart


def as_page(store: TrackingStore, comparison: Comparison, shortened: bool) -> str:
    """One HTML document that needs no network.

    Args:
        store: has the curves of the runs.
        shortened: whether the table is only the first rows of a longer one.
    """
    table = comparison.table
    by_run = comparison.by == "run"
    loss, unit = ("best_dev_loss", "runs") if by_run else ("mean_dev_loss", "settings")
    finished = table[np.isfinite(table[loss])]
    params = [str(key) for key in table if is_param(key) and finished[key].nunique(dropna=False) > 1]
    named = table.assign(name=[_name(row) for _, row in table.iterrows()])
    if "study" in named:
        named = named.assign(group=named["study"].fillna("no study"))
    curved = named.head(_CURVES)
    names = dict(zip(curved["run_id"], curved["name"], strict=True))
    label = loss_label(comparison.runs.values())
    curves = pictures.learning_curves(read_curves(store, list(names), "dev_loss"), names, label)
    limited = f"The first {len(curved)} of {len(table)} {unit}. " if len(curved) < len(table) else ""
    best = "" if by_run else "The run with the lowest dev loss of each setting. "
    parts: list[tuple[str, str, Any]] = []
    if comparison.lines is not None:
        parts.append(("Studies", "", formatted(comparison.lines)))
    parts += [
        ("Learning curves", f"{limited}{best}A click on a name hides its curve, two show it alone.", curves),
        (
            "Dev loss and the time it took",
            f"Only finished {unit}. Nothing beats those on the dotted line in both.",
            pictures.loss_against_cost(named, loss, "train_seconds", "training, seconds", params, label),
        ),
    ]
    if params:
        more = f" The first {pictures.DIMENSIONS} of {len(params)}." if len(params) > pictures.DIMENSIONS else ""
        hint = f"Only finished {unit}. Draw along an axis to choose lines; pull an axis by its name to move it.{more}"
        parts.append(("What differs", hint, pictures.parallel_coordinates(table, params, loss)))
    order = f"The first {len(table)}, lowest dev loss first." if shortened else "Lowest dev loss first."
    remark = " ".join([order, *comparison.remarks])
    parts.append((unit.capitalize(), remark, formatted(comparison.table_for_people)))
    data = data_in_words(comparison.runs.values())
    return pictures.page(f"makemore: {comparison.title}", parts, [f"Data: {data}."] if data else [])


def _name(row: "pd.Series[Any]") -> str:
    """How pictures name a run or a setting."""
    number = row["trials"] if "trials" in row else row["trial"]
    if pd.isna(number) or number == "" or row.get("kind", "trial") != "trial":
        return f"{row.get('kind', 'run')} {row['run_id'][:8]}"
    return f"{row['study']} #{number}" if "study" in row else f"#{number}"
