"""The notes, the leaderboard and the pictures of a study's run in MLflow, updated while the study runs."""

import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from sweeps.config.messages import one_line
from sweeps.connections import give_back_connections
from sweeps.reports.insight import Insight, find_insight
from sweeps.reports.leaderboard import leaderboard
from sweeps.reports.recorded import load_recorded
from sweeps.reports.selection import find_selection
from sweeps.reports.studies import StudyResults, read_study
from sweeps.reports.summary import Asked, as_notes, as_text
from sweeps.reports.tables import leaderboard_table
from sweeps.search.space import Setting, Space
from sweeps.task.items import Items
from sweeps.tracking.queries import read_reports, study_runs
from sweeps.tracking.registry import WinningRun, register_winner
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore
from sweeps.tracking.views import run_address
from sweeps.trials.trials import Trials

T = TypeVar("T")
_FIRST_SECONDS = 60.0  # a study that runs longer than this gets pictures while it runs
_SHARE = 0.005  # the updates of a running study may take this share of its time


class StudyReport:
    """The contents of a study's run in MLflow, which each process that started or joined the study updates."""

    def __init__(
        self,
        store: TrackingStore,
        run: TrackedRun,
        trials: Trials,
        space: Space,
        items: Items,
        budget: str,
        accepts: Callable[[Setting], bool],
        arguments: Sequence[str],
        pictures: bool = True,
        register: bool = True,
        asked: Asked = Asked(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self._store, self._run, self._trials = store, run, trials
        self._space, self._items, self._budget = space, items, budget
        self._accepts, self._arguments = accepts, arguments
        self._pictures, self._register, self._asked = pictures, register, asked
        self._due = time.monotonic() + _FIRST_SECONDS

    def prepare(self) -> None:
        """Import what `close` needs while the workers train; at the end of the study it would cost a second."""
        if not self._pictures:
            return
        with suppress(ImportError):  # `close` meets and reports the same error
            import optuna.importance  # noqa: F401

            import sweeps.reports.study_pictures  # noqa: F401

    def update_if_due(self) -> None:
        """Update the notes, the leaderboard and the page of pictures, at most as often as `_SHARE` allows."""
        started = time.monotonic()
        if started >= self._due:
            try:
                study, insight = self._write_notes()
            except Exception as error:
                _say_why_not("update of the study's run", error)
            else:
                if insight is not None:
                    self._draw(study, insight, stills=False)
            give_back_connections()  # until the next update, the workers need them more
            took = time.monotonic() - started
            self._due = time.monotonic() + max(_FIRST_SECONDS, took / _SHARE)

    def close(self, finished: bool) -> str:
        """The summary for the terminal, empty if no trial is complete; after the last update of the run.

        If the study finished, this also draws all pictures and registers the winner's model.
        """
        study, insight = self._write_notes()
        winner = study.winner
        if winner is None or insight is None:
            return ""
        if finished and self._pictures:
            self._draw(study, insight, stills=True)
            _attempt("pictures of the winner", lambda: self._draw_winner(winner.run_id))
        if finished and self._register:
            digest, items = winner.tags["weights_digest"], self._items
            data = items.name, items.split.source_digest
            winning = WinningRun(study.name, insight.winner, winner.run_id, digest, *data)
            _attempt("model in the registry", lambda: register_winner(self._store, winning))
        has_seeds = any("seeds" in run.tags for run in study.trials)
        seeds = study_runs(self._store, study.name, "seed") if has_seeds else []
        selection = _attempt("corrected dev loss", lambda: find_selection(self._store, study.complete))
        wider = self._wider(study.name, insight)
        return as_text(study, winner, insight, self._space, self._asked, wider, seeds, selection)

    def _wider(self, name: str, insight: Insight) -> list[str]:
        """The arguments of the command that goes on in a wider space; empty where no range is to be widened."""
        wider = [widening.override for widening in insight.widenings]
        if not wider:
            return []
        replaced = {override.partition("=")[0] for override in wider} | {"study.name", "study.start_from"}
        kept = [word for word in self._arguments if word.partition("=")[0] not in replaced]
        return ["sweep", *kept, f"study.name={_next_name(name)}", f"study.start_from={name}", *wider]

    def _write_notes(self) -> tuple[StudyResults, Insight | None]:
        study = read_study(self._store, self._trials.name)
        insight = None
        if study.winner is not None and study.winner.trial is not None:
            standing = self._trials.standing()
            insight = find_insight(standing, self._space, study.winner.trial, self._accepts)
        self._run.log_metrics(study.metrics, step=sum(run.state != "RUNNING" for run in study.trials))
        page = run_address(self._store, study.winner.run_id).removeprefix("/") if study.winner else ""
        self._run.describe(as_notes(study, insight, self._space, self._budget, page, self._asked.question))
        self._run.log_table("leaderboard", leaderboard_table(leaderboard(study.trials)).drop(columns="reason"))
        self._run.flush()
        return study, insight

    def _draw(self, study: StudyResults, insight: Insight, stills: bool) -> None:
        """Draw the page of pictures and, with `stills`, each picture as a PNG file, which takes twice as long."""
        if self._pictures and len(study.complete) > 1:
            _attempt("pictures of the study", lambda: self._log_pictures(study, insight, stills))

    def _draw_winner(self, run_id: str) -> None:
        """Draw the winner's own pictures; trials are recorded without them, single runs with them."""
        recorded = load_recorded(self._store, run_id)
        task = recorded.config.task
        with TrackedRun(self._store.client, run_id).artifacts() as folder:
            task.draw(recorded.trained, read_reports(self._store, run_id), folder)

    def _log_pictures(self, study: StudyResults, insight: Insight, stills: bool) -> None:
        from sweeps.reports.study_pictures import StudyPictures  # takes a second to import

        pictures = StudyPictures(self._trials.study, study, insight.importances)
        with self._run.artifacts() as folder:
            (folder / "pictures.html").write_text(pictures.page(), encoding="utf-8")
            if stills:
                (folder / "pictures").mkdir()
                pictures.draw(folder / "pictures")


def _next_name(name: str) -> str:
    """A name for the study that goes on with a wider space: first-wider, first-wider-2 and so on."""
    match = re.fullmatch(r"(.*-wider)(?:-(\d+))?", name)
    return f"{match[1]}-{int(match[2] or 1) + 1}" if match else f"{name}-wider"


def _attempt(what: str, action: Callable[[], T]) -> T | None:
    """The result of an action that the study can do without; if it fails, its error is printed."""
    try:
        return action()
    except Exception as error:
        _say_why_not(what, error)
        return None


def _say_why_not(what: str, error: Exception) -> None:
    print(f"makemore: no {what}: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
