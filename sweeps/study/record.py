"""What a study's run in MLflow shows a person: notes, the leaderboard, pictures; brought up to date as it runs."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sweeps.config.messages import one_line
from sweeps.reports.insight import Insight, find_insight
from sweeps.reports.leaderboard import Study, leaderboard, read_study
from sweeps.reports.summary import as_notes, as_text
from sweeps.search.space import Space
from sweeps.tracking.store import TrackedRun, TrackingStore
from sweeps.trials.trials import Trials

_FIRST_SECONDS = 60.0  # after which a study that still runs gets pictures
_SHARE = 0.005  # of the time, that bringing the record of a study that runs up to date may take


class StudyRecord:
    """The record of a study that this process works at; others that work at it keep it, too."""

    def __init__(
        self,
        store: TrackingStore,
        run: TrackedRun,
        trials: Trials,
        space: Space,
        budget: str,
        pictures: bool = True,
        register: bool = True,
    ) -> None:
        self._store, self._run, self._trials, self._space, self._budget = store, run, trials, space, budget
        self._pictures, self._register = pictures, register
        self._due = time.monotonic() + _FIRST_SECONDS

    def prepare(self) -> None:
        """Import what `close` needs while others train: it takes a second, in which, at the end, no core would."""
        if not self._pictures:
            return
        with suppress(ImportError):  # `close` will say so
            import optuna.importance  # noqa: F401

            import sweeps.reports.study_pictures  # noqa: F401

    def update_if_due(self) -> None:
        """Bring notes, leaderboard and page up to date, if the last time is long enough ago for what it takes."""
        started = time.monotonic()
        if started >= self._due:
            study, insight = self._write_notes()
            if insight is not None:
                self._draw(study, insight, stills=False)
            took = time.monotonic() - started
            self._due = time.monotonic() + max(_FIRST_SECONDS, took / _SHARE)

    def close(self, finished: bool) -> str:
        """Complete all of it, and register the winner's model; of a study that did not finish, only the notes.

        Returns:
            The summary for a terminal; empty if no trial is complete.
        """
        study, insight = self._write_notes()
        if insight is None:
            return ""
        if finished:
            self._draw(study, insight, stills=True)
        if finished and self._register:
            winner = {"study": study.name, **dict(study.winner if study.winner is not None else {})}
            _attempt("model in the registry", lambda: self._store.register_winner(winner))
        return as_text(study, insight, self._space)

    def _write_notes(self) -> tuple[Study, Insight | None]:
        study = read_study(self._store, self._trials.name)
        winner, insight = study.winner, None
        if winner is not None:
            standing = self._trials.standing()
            insight = find_insight(self._trials.study, standing, self._space, int(winner["trial"]))
        self._run.log_tags({"mlflow.note.content": as_notes(study, insight, self._space, self._budget)})
        self._run.log_table("leaderboard", leaderboard(study.trials).drop(columns="reason"))
        self._run.flush()
        return study, insight

    def _draw(self, study: Study, insight: Insight, stills: bool) -> None:
        """The page of pictures and, where asked for, each as a PNG file: they take twice as long as the page."""
        if self._pictures and (study.trials["state"] == "COMPLETE").sum() > 1:
            _attempt("pictures of the study", lambda: self._log_pictures(study, insight, stills))

    def _log_pictures(self, study: Study, insight: Insight, stills: bool) -> None:
        from sweeps.reports.study_pictures import StudyPictures  # takes a second to import

        pictures = StudyPictures(self._trials.study, study, insight.importances)
        with self._run.artifacts() as folder:
            (folder / "pictures.html").write_text(pictures.page(), encoding="utf-8")
            if stills:
                (folder / "pictures").mkdir()
                pictures.draw(folder / "pictures")


def _attempt(what: str, action: Callable[[], Any]) -> None:
    """Do what is good to have, but what no study fails for want of."""
    try:
        action()
    except Exception as error:
        print(f"makemore: no {what}: {type(error).__name__}: {one_line(error)}", file=sys.stderr)
