"""How far the workers of a study are, in one line on standard error."""

import sys
import time
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

_LINE_SECONDS = 0.1  # between two updates while a trial trains


@dataclass(frozen=True)
class News:
    """What a worker is doing."""

    worker: str
    phase: str = "search"  # or "confirm"
    trial: int | None = None  # the number of the trial that it works on
    evaluation: int = 0  # how many times that trial has reported
    evaluations: int | None = None  # how many times it will have, where that is known
    dev_loss: float | None = None
    standing: tuple[int, int] | None = None  # between two trials: how many are finished, and how many there will be
    best: tuple[int, float] | None = None  # number and dev loss of the best trial so far
    failure: str | None = None  # why a trial failed


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread that watches the bar: this process is going to be forked


class ProgressLine:
    """Trials finished, the best so far, and what each worker is doing."""

    def __init__(self, study: str) -> None:
        self._study, self._phase = study, ""
        self._bar: _Bar | None = None
        self._at_work: dict[str, str] = {}
        self._best = ""
        self._refreshed = 0.0

    def show(self, news: News) -> None:
        """Bring the line up to date."""
        if news.failure:
            _Bar.write(news.failure, file=sys.stderr)
        if news.phase == "search" and self._phase == "confirm":  # this worker does not know yet that the search is over
            return
        bar = self._open(news.phase, news.standing[1] if news.standing else 0)
        if news.standing:
            bar.total, bar.n = news.standing[1], max(bar.n, min(news.standing))
        if news.best:
            self._best = f"best dev loss {news.best[1]:.4f} (trial {news.best[0]})"
        if news.trial is not None:
            loss = f" {news.dev_loss:.3f}" if news.dev_loss is not None else ""
            progress = f"{news.evaluation / news.evaluations:.0%}" if news.evaluations else f"at {news.evaluation}"
            self._at_work[news.worker] = f"#{news.trial} {progress}{loss}"
        elif news.standing:  # the worker took no trial
            self._at_work.pop(news.worker, None)
        bar.set_postfix_str("; ".join(filter(None, [self._best, ", ".join(self._at_work.values())])), refresh=False)
        # A trial's end is shown at once. What happens in between moves a terminal's line, but adds none to a log.
        if news.standing or (sys.stderr.isatty() and time.monotonic() - self._refreshed > _LINE_SECONDS):
            bar.refresh()
            self._refreshed = time.monotonic()

    def gone(self, worker: str) -> None:
        """Leave out a worker that has ended."""
        self._at_work.pop(worker, None)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._best)
            self._bar.close()

    def _open(self, phase: str, total: int) -> Any:
        if self._bar is None or phase != self._phase:
            self.close()
            self._phase = phase
            description = self._study if phase == "search" else f"{self._study}, {phase}"
            self._bar = _Bar(total=total, unit="trial", desc=description, file=sys.stderr)
        return self._bar
