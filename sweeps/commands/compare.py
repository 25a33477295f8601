"""`makemore compare`: runs and studies side by side, as a table or as a page with pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from makemore.limits import LimitError, check
from sweeps.config.names import check_output, check_study_name
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.reports.comparison import TEXT_FORMATS, Comparison
from sweeps.reports.leaderboard import leaderboard
from sweeps.reports.paired import differences, setting_differences
from sweeps.reports.settings import settings
from sweeps.reports.studies import StudyResults, find_study
from sweeps.reports.tables import leaderboard_table, settings_table
from sweeps.tracking.queries import RunRecord, find_runs, find_study_run, study_runs
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.winner import Confirmation

FORMATS = (*TEXT_FORMATS, "html")
ROWS = ("run", "setting")
_PAGE = "compare.html"
_FEWEST_DIGITS = 6  # a number with fewer is meant as a trial's, and not as the beginning of a run's id


@dataclass(frozen=True)
class CompareConfig:
    """The keys of `makemore compare`: what is compared, and how it is shown."""

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
        if self.top is not None:
            check("top", self.top, low=1)
        check_output("output", self.output)


def compare(cfg: DictConfig) -> str:
    """The text that `makemore compare` prints: the comparison or, if it goes to a file, a line about the file.

    Raises:
        RequestError: a value is wrong, a study or run does not exist, or the baseline has other dev items.
    """
    config: CompareConfig = read_node(CompareConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    studies = _read_studies(store, config, cfg.study.name)
    runs = _read_runs(store, config, studies)
    baseline = None if config.baseline is None else _find_baseline(store, config.baseline, studies)
    if config.by == "setting":
        results = settings(runs.values())
        table = settings_table(results, None if baseline is None else setting_differences(store, results, baseline))
    else:
        board = leaderboard(list(runs.values()))
        paired = None
        if baseline is not None:
            paired = differences(store, board.runs[: config.top], baseline)
        table = leaderboard_table(board, _confirmations(studies), paired)
    comparison = Comparison(studies, len(config.runs), runs, table.head(config.top or len(table)), config.by)
    what = f"{comparison.title}, {len(comparison.table)} rows"
    if config.format == "html":
        from sweeps.reports.comparison_page import as_page  # imports plotly, which takes long

        return write(config.output or _PAGE, as_page(store, comparison, config.top is not None), what)
    text = comparison.as_text(config.format)
    return text if config.output is None else write(config.output, f"{text}\n", what)


def _read_studies(store: TrackingStore, config: CompareConfig, name: str | int | None) -> list[StudyResults]:
    given = [("study.name is", str(name))] if name is not None else []
    given += [("studies has", str(study)) for study in config.studies]
    if not given and not config.runs:
        return [find_study(store, None)]
    first_given = {study: words for words, study in reversed(given)}  # a study that is named twice is shown once
    return [find_study(store, study, first_given[study]) for study in dict.fromkeys(study for _, study in given)]


def _read_runs(store: TrackingStore, config: CompareConfig, studies: Sequence[StudyResults]) -> dict[str, RunRecord]:
    """The runs that are compared, by run id."""
    runs = [run for study in studies for run in study.trials]
    if config.by == "setting":  # each seed counts: those of a trial, and those that confirm it
        runs = [run for run in runs if "seeds" not in run.tags]
        runs += [run for study in studies for run in study_runs(store, study.name, "seed")]
        runs += [run for study in studies for run in study.confirming]
    runs += find_runs(store, [_read_id("runs has", run_id) for run_id in config.runs], "runs has")
    return {run.run_id: run for run in runs}


def _read_id(given: str, value: Any) -> str:
    if isinstance(value, float):
        raise RequestError(f"{given} {value}; an id that reads as a number is given in quotes, as in '\"12e5\"'")
    return str(value)


def _find_baseline(store: TrackingStore, value: str | int | float, studies: Sequence[StudyResults]) -> RunRecord:
    """The run that `baseline` names by run id, by study (its winner) or, with a single study, by trial number.

    Raises:
        RequestError: no such run or study exists, or the study has no winner.
    """
    if isinstance(value, int) and len(studies) == 1:
        numbered = next((run for run in studies[0].trials if run.trial == value), None)
        if numbered is not None and numbered.state == "COMPLETE":
            return numbered
        if numbered is not None:
            complete = ", ".join(str(run.trial) for run in studies[0].complete[:5]) or "none yet"
            raise RequestError(
                f"baseline is {value}; trial {value} of study {studies[0].name} is {numbered.state}, and only a "
                f"complete trial has losses to pair: {complete}"
            )
        if len(str(value)) < _FEWEST_DIGITS:
            last = max((run.trial for run in studies[0].trials if run.trial is not None), default=0)
            raise RequestError(f"baseline is {value}; study {studies[0].name} has trials 0 to {last}")
    name = _read_id("baseline is", value)
    check_study_name(name, "baseline is")
    study = next((study for study in studies if study.name == name), None)
    if study is None and find_study_run(store, name) is not None:
        study = find_study(store, name, "baseline is")
    if study is None:
        return find_runs(store, [name], "baseline is")[0]
    if study.winner is None:
        raise RequestError(f"baseline is {name}; no trial of that study is complete, so it has no winner")
    return study.winner


def _confirmations(studies: Sequence[StudyResults]) -> Mapping[str, Confirmation]:
    """The confirmations of trials, by the trials' run ids."""
    return {
        run.run_id: confirmation
        for study in studies
        for confirmation in study.confirmations
        for run in study.trials
        if run.trial == confirmation.trial
    }


def write(output: str, text: str, what: str) -> str:
    """A line that says what is in a file, after writing it.

    Raises:
        RequestError: the file cannot be written.
    """
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"output is {output}; it cannot be written ({error.strerror})") from None
    return f"{output}: {what}"
