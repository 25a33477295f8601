"""Runs and studies side by side, as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from makemore.bootstrap import FEWEST
from sweeps.config.terminal import wrap
from sweeps.reports.studies import StudyResults
from sweeps.reports.tables import lines_table, to_csv, to_json, to_markdown, to_text
from sweeps.tracking.queries import RunRecord

TEXT_FORMATS = ("table", "csv", "json", "markdown")
_HASHES = ["config_hash", "weights_digest", "dev_words", "group_hash"]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and the table that it comes to."""

    studies: Sequence[StudyResults]
    given_runs: int  # how many runs were named beside the studies
    runs: Mapping[str, RunRecord]  # all that is compared, by run id
    table: pd.DataFrame  # the first rows of what the runs come to
    by: str  # what a row of the table is: "run" or "setting"

    @property
    def table_for_people(self) -> pd.DataFrame:
        """The table without hashes; with the last loss of a pruned trial, which csv and json leave out."""
        table = self.table.drop(columns=_HASHES, errors="ignore")
        if self.by == "run":
            last = [self.runs[run_id].metrics.get("dev_loss") for run_id in table["run_id"]]
            table = table.assign(
                best_dev_loss=table["best_dev_loss"].fillna(pd.Series(last, index=table.index, dtype=float))
            )
        return table.drop(columns=[key for key in ("reason",) if key in table and table[key].isna().all()])

    @property
    def lines(self) -> pd.DataFrame | None:
        """One row per study, if there is more than one study to tell apart."""
        if not self.studies or len(self.studies) + bool(self.given_runs) <= 1:
            return None
        return lines_table([study.line for study in self.studies])

    @property
    def remarks(self) -> list[str]:
        """What a reader must know."""
        remarks, splits = [], self.table["dev_words"].nunique()
        if splits > 1:
            remarks.append(f"The dev words are of {splits} different splits: these losses do not compare.")
        if self.by == "run" and "difference" in self.table and self.table["difference_low"].isna().all():
            remarks.append(f"There are no intervals: they take at least {FEWEST} distinct dev items.")
        return remarks

    @property
    def title(self) -> str:
        """What is compared, in words."""
        names = ", ".join(study.name for study in self.studies)
        studies = [f"{'study' if len(self.studies) == 1 else 'studies'} {names}"] if names else []
        runs = [f"{self.given_runs} {'run' if self.given_runs == 1 else 'runs'}"] if self.given_runs else []
        return " and ".join(studies + runs)

    def as_text(self, form: str) -> str:
        """The comparison in one of `TEXT_FORMATS`."""
        if form == "csv":
            return to_csv(self.table)
        if form == "json":
            return to_json(self.table)
        return self._as_markdown() if form == "markdown" else self._as_table()

    def _as_table(self) -> str:
        lines = self.lines
        title = f"{wrap(self.title)}\n" if self.studies else ""
        head = title if lines is None else f"{to_text(lines)}\n\n"
        return head + "\n".join([to_text(self.table_for_people), *map(wrap, self.remarks)])

    def _as_markdown(self) -> str:
        tables = [table for table in (self.lines, self.table_for_people) if table is not None]
        return "\n\n".join([*map(to_markdown, tables), *self.remarks])
