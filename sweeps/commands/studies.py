"""`makemore studies`: the studies that are recorded here, the newest first."""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from makemore.limits import LimitError
from sweeps.commands.compare import FORMATS, write
from sweeps.config.names import check_output
from sweeps.config.reading import read_node
from sweeps.databases import NoRecords, hide_password, resolve_url
from sweeps.errors import RequestError
from sweeps.look.record import Looks
from sweeps.reports.leaderboard import data_name, outcome
from sweeps.reports.studies import StudyResults, read_study
from sweeps.reports.tables import formatted, to_csv, to_json, to_markdown, to_text
from sweeps.tracking.queries import search_runs
from sweeps.tracking.store import open_tracking
from sweeps.trials.seal import CLAIM

_RENDERERS = {"table": to_text, "csv": to_csv, "json": to_json, "markdown": to_markdown}
_PAGE = "studies.html"


@dataclass(frozen=True)
class StudiesConfig:
    """The keys of `makemore studies`: how the list is shown."""

    format: str
    output: str | None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise LimitError("format", self.format, f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        check_output("output", self.output)


def list_studies(cfg: DictConfig) -> str:
    """The text that `makemore studies` prints: a table with a row for each study, or a line if there are none.

    Raises:
        RequestError: a value is wrong, or the records cannot be used.
    """
    config: StudiesConfig = read_node(StudiesConfig, cfg, "")
    studies = _read_studies(cfg)
    if not studies:
        where = hide_password(str(cfg.tracking.uri))
        if cfg.study.name is not None:
            raise RequestError(f"study.name is {cfg.study.name}; {where} has no such study: makemore studies lists all")
        return f"there is no study in {where} yet; start one with makemore sweep"
    looked = _looked_at(cfg)
    rows = [_row(study, "unknown" if looked is None else "yes" if study.name in looked else "no") for study in studies]
    table = pd.DataFrame(rows).astype({"winner": "Int64"})
    what = f"{len(table)} {'study' if len(table) == 1 else 'studies'}"
    if config.format == "html":
        from sweeps.reports.pictures import page  # imports plotly, which takes long

        return write(config.output or _PAGE, page("makemore: studies", [("Studies", "", formatted(table))]), what)
    text = _RENDERERS[config.format](table)
    return text if config.output is None else write(config.output, f"{text}\n", what)


def _read_studies(cfg: DictConfig) -> list[StudyResults]:
    """The studies that are recorded, or the one of study.name; the newest first."""
    try:
        store = open_tracking(cfg, create=False)
    except NoRecords:
        return []
    parents = search_runs(store, "tags.kind = 'study'")
    names = dict.fromkeys(parent.study for parent in parents if parent.study is not None)
    return [read_study(store, name) for name in names if cfg.study.name is None or name == str(cfg.study.name)]


def _row(study: StudyResults, looked_at: str) -> dict[str, Any]:
    counts = Counter(outcome(run) for run in study.trials)
    line, first = study.line, study.trials[0] if study.trials else None
    return {
        "study": study.name,
        "data": data_name(first) if first else None,
        "task": first.params.get("task", "language_model") if first else None,  # the oldest records have no task
        "complete": counts.pop("COMPLETE", 0),
        "pruned": counts.pop("PRUNED", 0),
        "failed": counts.pop("FAIL", 0),
        "running": counts.pop("RUNNING", 0),
        "cut_short": counts.total(),  # interrupted, or their workers died: they are tried again
        "best_dev_loss": line.best_dev_loss,
        "confirmed_mean": line.confirmed_mean,
        "winner": line.winner,
        "looked_at": looked_at,
    }


def _looked_at(cfg: DictConfig) -> Container[str] | None:
    """The studies whose look at the test split is taken or claimed; None where there is no database of studies."""
    try:
        url = resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True)
    except NoRecords:
        return None
    return {record.content["study"] for record in Looks(url).records() if record.kind == CLAIM}
