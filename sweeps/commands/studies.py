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
from sweeps.trials.at_work import AtWork, at_work
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.seal import CLAIM
from sweeps.trials.storage import GRACE_SECONDS
from sweeps.trials.trials import find_trials

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
    storage = _storage(cfg)
    looked = _looked_at(storage) if storage else None
    workers = {study.name: _at_work(study.name, storage) if storage and is_open else [] for study, is_open in studies}
    rows = [
        _row(study, "unknown" if looked is None else "yes" if study.name in looked else "no", len(workers[study.name]))
        for study, _ in studies
    ]
    if config.format == "json":
        for row in rows:
            row["workers"] = [_worker_row(worker) for worker in workers[row["study"]]]
    table = pd.DataFrame(rows).astype({"winner": "Int64"})
    at_trials = pd.DataFrame([{"study": name} | _worker_row(worker) for name in workers for worker in workers[name]])
    what = f"{len(table)} {'study' if len(table) == 1 else 'studies'}"
    if config.format == "html":
        from sweeps.reports.pictures import page  # imports plotly, which takes long

        sections = [("Studies", "", formatted(table))]
        sections += [("Workers at a trial", "", formatted(_plain(at_trials)))] if len(at_trials) else []
        return write(config.output or _PAGE, page("makemore: studies", sections), what)
    text = _RENDERERS[config.format](table)
    if len(at_trials) and config.format in ("table", "markdown"):
        text += f"\n\nworkers at a trial:\n\n{_RENDERERS[config.format](_plain(at_trials))}"
    return text if config.output is None else write(config.output, f"{text}\n", what)


def _read_studies(cfg: DictConfig) -> list[tuple[StudyResults, bool]]:
    """The studies that are recorded, or the one of study.name, and whether each is open; the newest first."""
    try:
        store = open_tracking(cfg, create=False)
    except NoRecords:
        return []
    parents = search_runs(store, "tags.kind = 'study'")
    is_open = {parent.study: parent.status == "RUNNING" for parent in reversed(parents) if parent.study is not None}
    names = dict.fromkeys(parent.study for parent in parents if parent.study is not None)
    wanted = [name for name in names if cfg.study.name is None or name == str(cfg.study.name)]
    return [(read_study(store, name), is_open[name]) for name in wanted]


def _row(study: StudyResults, looked_at: str, workers: int) -> dict[str, Any]:
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
        "workers": workers,
        "cut_short": counts.total(),  # interrupted, or their workers died: they are tried again
        "best_dev_loss": line.best_dev_loss,
        "confirmed_mean": line.confirmed_mean,
        "winner": line.winner,
        "looked_at": looked_at,
    }


def _worker_row(worker: AtWork) -> dict[str, Any]:
    return {
        "worker": worker.worker,
        "host": worker.host,
        "trial": worker.trial if worker.confirms is None else worker.confirms,
        "phase": "search" if worker.confirms is None else "confirm",
        "beat_seconds_ago": round(worker.seconds, 1),
    }


def _plain(workers: pd.DataFrame) -> pd.DataFrame:
    """Workers as people read them: those that have been silent for too long are marked."""
    beats = [
        f"{seconds:.0f} s ago" + (" (silent)" if seconds > GRACE_SECONDS else "")
        for seconds in workers["beat_seconds_ago"]
    ]
    return workers.drop(columns="beat_seconds_ago").assign(last_beat=beats)


def _at_work(study: str, url: str) -> list[AtWork]:
    phases = [find_trials(name, url) for name in (study, confirm_study_name(study))]
    return at_work(filter(None, phases))


def _storage(cfg: DictConfig) -> str | None:
    """The database of studies; None where there is none."""
    try:
        return resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True, writes=False)
    except NoRecords:
        return None


def _looked_at(url: str) -> Container[str]:
    """The studies whose look at the test split is taken or claimed."""
    return {record.content["study"] for record in Looks(url).records() if record.kind == CLAIM}
