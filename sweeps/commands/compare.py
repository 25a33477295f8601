"""Runs and studies side by side: as a table, or as a page with pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from makemore.limits import LimitError, check
from sweeps.config.names import check_output, check_study_name
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.reports.leaderboard import (
    Study,
    find_study,
    formatted,
    is_param,
    leaderboard,
    read_study,
    settings,
    to_csv,
    to_json,
    to_markdown,
    to_text,
)
from sweeps.reports.paired import differences
from sweeps.tracking.store import TrackingStore, open_tracking

FORMATS = ("table", "csv", "json", "markdown", "html")
ROWS = ("run", "setting")
_PAGE = "compare.html"
_CURVES = 30  # lines that can be told apart


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and how it is shown."""

    studies: list[Any]
    runs: list[Any]
    by: str
    baseline: str | int | float | None
    top: int | None
    format: str
    output: str | None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise LimitError("format", self.format, f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        if self.by not in ROWS:
            raise LimitError("by", self.by, " or ".join(ROWS))
        if self.by == "setting" and self.baseline is not None:
            raise LimitError(
                "baseline", self.baseline, "null with by=setting: one run's words are paired with another's"
            )
        if self.top is not None:
            check("top", self.top, low=1)
        check_output("output", self.output)


def compare(cfg: DictConfig) -> str:
    """What `makemore compare` prints; with `output`, what is said of the file that has it.

    Raises:
        RequestError: a value that is not possible, no such study or run, or a baseline on other words.
    """
    config: CompareConfig = read_node(CompareConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    studies = _read_studies(store, config, cfg.study.name)
    runs = _read_runs(store, config, studies)
    table = settings(runs) if config.by == "setting" else _with_confirmations(leaderboard(runs), studies)
    table = table.head(config.top or len(table))
    if config.baseline is not None:
        table = _with_differences(store, table, _find_baseline(store, config.baseline, studies))
    shown = _Shown(config, studies, runs, table)
    if config.format == "html":
        return _write(config.output or _PAGE, _page(store, shown), shown)
    text = _RENDERERS[config.format](shown)
    return text if config.output is None else _write(config.output, f"{text}\n", shown)


def _read_studies(store: TrackingStore, config: CompareConfig, name: str | int | None) -> list[Study]:
    given = [("study.name is", str(name))] if name is not None else []
    given += [("studies has", str(one)) for one in config.studies]
    if not given and not config.runs:
        return [read_study(store, *find_study(store, None))]
    words = {study: word for word, study in reversed(given)}  # a study that is named twice stands there once
    return [read_study(store, *find_study(store, study, words[study])) for study in dict.fromkeys(x for _, x in given)]


def _read_runs(store: TrackingStore, config: CompareConfig, studies: list[Study]) -> pd.DataFrame:
    """All that is compared, each run once."""
    frames = [study.trials for study in studies]
    if config.by == "setting":
        frames += [store.study_runs(study.name, "confirm") for study in studies]
    frames.append(store.find_runs([_read_id("runs has", one) for one in config.runs], "runs has"))
    runs = pd.concat([frame for frame in frames if len(frame)], ignore_index=True).drop_duplicates("run_id")
    return runs.assign(trial=runs["trial"].astype("Int64"))


def _read_id(given: str, value: Any) -> str:
    if isinstance(value, float):
        raise RequestError(f"{given} {value}; an id that reads as a number is given in quotes, as in '\"12e5\"'")
    return str(value)


def _find_baseline(store: TrackingStore, value: str | int | float, studies: list[Study]) -> "pd.Series[Any]":
    """The row of a run, of a study's winner, or, beside one study, of its trial of a number.

    Raises:
        RequestError: none of these, or a study without a winner.
    """
    if isinstance(value, int) and len(studies) == 1:
        trials = studies[0].trials
        numbered = trials[trials["trial"] == value]
        if len(numbered):
            return numbered.iloc[0]
    name = _read_id("baseline is", value)
    check_study_name(name, "baseline is")
    study = next((study for study in studies if study.name == name), None)
    if study is None and store.find_study_run(name) is not None:
        study = read_study(store, *find_study(store, name, "baseline is"))
    if study is None:
        return store.find_runs([name], "baseline is").iloc[0]
    if study.winner is None:
        raise RequestError(f"baseline is {name}; no trial of that study is complete, so it has no winner")
    return study.winner


def _with_confirmations(table: pd.DataFrame, studies: list[Study]) -> pd.DataFrame:
    """The table with the means over fresh seeds of the trials that have them."""
    confirmed = [study.confirmed.merge(study.trials[["trial", "run_id"]]) for study in studies if len(study.confirmed)]
    if not confirmed:
        return table
    means = pd.concat(confirmed).set_index("run_id")
    columns = {f"confirmed_{name}": table["run_id"].map(means[name]) for name in ("mean", "sd")}
    return _insert(table, pd.DataFrame(columns))


def _with_differences(store: TrackingStore, table: pd.DataFrame, baseline: "pd.Series[Any]") -> pd.DataFrame:
    found = differences(store, table, baseline)
    return _insert(table, found.reindex(table["run_id"]).set_axis(table.index))


def _insert(table: pd.DataFrame, columns: pd.DataFrame) -> pd.DataFrame:
    """More columns, behind the dev loss."""
    place = list(table.columns).index("best_dev_loss") + 1
    return pd.concat([table.iloc[:, :place], columns, table.iloc[:, place:]], axis=1)


@dataclass(frozen=True)
class _Shown:
    """What is shown: `table` is the first rows of what `runs` come to."""

    config: CompareConfig
    studies: list[Study]
    runs: pd.DataFrame
    table: pd.DataFrame

    @property
    def for_people(self) -> pd.DataFrame:
        """The table without hashes; with the last loss of a pruned trial, which csv and json leave out."""
        table = self.table.drop(columns=["config_hash", "weights_digest", "dev_words", "group_hash"], errors="ignore")
        if "best_dev_loss" in table and "dev_loss" in self.runs:
            last = self.runs.set_index("run_id")["dev_loss"]
            table = table.assign(best_dev_loss=table["best_dev_loss"].fillna(table["run_id"].map(last)))
        return table.drop(columns=[key for key in ("reason",) if key in table and table[key].isna().all()])

    @property
    def lines(self) -> pd.DataFrame:
        """A line a study."""
        lines = pd.DataFrame([study.line for study in self.studies])
        return lines.assign(winner=lines["winner"].astype("Int64"))

    @property
    def has_lines(self) -> bool:
        """Whether there is more than one study to tell apart."""
        return bool(self.studies) and len(self.studies) + bool(self.config.runs) > 1

    @property
    def remarks(self) -> list[str]:
        """What a reader must know."""
        splits = self.table["dev_words"].nunique()
        return [f"The dev words are of {splits} different splits: these losses do not compare."] if splits > 1 else []

    @property
    def title(self) -> str:
        """What it is a comparison of."""
        names = ", ".join(study.name for study in self.studies)
        of_studies = [f"{'study' if len(self.studies) == 1 else 'studies'} {names}"] if names else []
        count = len(self.config.runs)
        return " and ".join(of_studies + ([f"{count} {'run' if count == 1 else 'runs'}"] if count else []))


def _to_table(shown: _Shown) -> str:
    head = f"{to_text(shown.lines)}\n\n" if shown.has_lines else f"{shown.title}\n" if shown.studies else ""
    return head + "\n".join([to_text(shown.for_people), *shown.remarks])


def _to_markdown(shown: _Shown) -> str:
    tables = [shown.lines] * shown.has_lines + [shown.for_people]
    return "\n\n".join([*map(to_markdown, tables), *shown.remarks])


_RENDERERS: dict[str, Callable[[_Shown], str]] = {
    "table": _to_table,
    "markdown": _to_markdown,
    "csv": lambda shown: to_csv(shown.table),
    "json": lambda shown: to_json(shown.table),
}


def _page(store: TrackingStore, shown: _Shown) -> str:
    from sweeps.reports import pictures

    table = shown.table
    by_run = shown.config.by == "run"
    loss = "best_dev_loss" if by_run else "mean_dev_loss"
    unit = "runs" if by_run else "settings"
    finished = table[np.isfinite(table[loss])]
    params = [str(key) for key in table if is_param(key) and finished[key].nunique(dropna=False) > 1]
    named = table.assign(name=[_name(row) for _, row in table.iterrows()])
    if "study" in named:
        named = named.assign(group=named["study"].fillna("no study"))
    curved = named.head(_CURVES)
    curves = pictures.learning_curves(
        store.histories(list(curved["run_id"]), "dev_loss"), dict(zip(curved["run_id"], curved["name"], strict=True))
    )
    limited = f"The first {len(curved)} of {len(table)} {unit}. " if len(curved) < len(table) else ""
    of_setting = "" if by_run else "Of each setting the run with the lowest dev loss. "
    done = "Of those that finished. "
    parts: list[tuple[str, str, Any]] = []
    if shown.has_lines:
        parts.append(("Studies", "", formatted(shown.lines)))
    parts += [
        ("Learning curves", f"{limited}{of_setting}A click on a name hides its curve, two show it alone.", curves),
        (
            "Dev loss and the time it took",
            f"{done}On the dotted line is what nothing else beats in both.",
            pictures.loss_against_cost(named, loss, "train_seconds", "training, seconds", params),
        ),
    ]
    if params:
        picture = pictures.parallel_coordinates(table, params, loss)
        more = f" The first {pictures.DIMENSIONS} of {len(params)}." if len(params) > pictures.DIMENSIONS else ""
        hint = f"{done}Draw along an axis to choose lines; pull an axis by its name to move it.{more}"
        parts.append(("What differs", hint, picture))
    rest = f"The first {len(table)}, lowest dev loss first." if shown.config.top else "Lowest dev loss first."
    parts.append((unit.capitalize(), " ".join([rest, *shown.remarks]), formatted(shown.for_people)))
    return pictures.page(f"makemore: {shown.title}", parts)


def _name(row: "pd.Series[Any]") -> str:
    """Of a run, or a setting, in pictures."""
    number = row["trials"] if "trials" in row else row["trial"]
    if pd.isna(number) or number == "" or row.get("kind", "trial") != "trial":
        return f"{row.get('kind', 'run')} {row['run_id'][:8]}"
    return f"{row['study']} #{number}" if "study" in row else f"#{number}"


def _write(output: str, text: str, shown: _Shown) -> str:
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"output is {output}; it cannot be written ({error.strerror})") from None
    return f"{output}: {shown.title}, {len(shown.table)} rows"
