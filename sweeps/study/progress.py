"""How far the workers of a study are: a line of a terminal, or now and then a line of a log, on standard error."""

import math
import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

from sweeps.connections import tell_once

_REFRESH_SECONDS = 0.1  # between two updates of a terminal's line while a trial trains
_LOG_SECONDS = 30.0  # between two lines of a log


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
    waits: str | None = None  # that the worker waits for a database, and why


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread that watches the bar: this process is going to be forked


class ProgressLine:
    """Trials finished, the best so far, and what each worker is doing."""

    def __init__(self, study: str) -> None:
        self._study, self._phase = study, ""
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: _Bar | None = None
        self._at_work: dict[str, str] = {}
        self._best = ""
        self._finished, self._total = 0, 0
        self._shown = -math.inf  # when a line was last shown
        self._logged = ""

    def show(self, news: News) -> None:
        """Bring the line up to date."""
        if news.waits:
            tell_once(news.waits)
            return
        if news.failure:
            self.write(news.failure)
        if news.phase == "search" and self._phase == "confirm":  # this worker does not know yet that the search is over
            return
        if news.phase != self._phase:
            self._begin(news)
        if news.standing:
            self._finished, self._total = max(self._finished, min(news.standing)), news.standing[1]
        if news.best:
            self._best = f"best dev loss {news.best[1]:.4f} (trial {news.best[0]})"
        if news.trial is not None:
            loss = f" {news.dev_loss:.3f}" if news.dev_loss is not None else ""
            progress = f"{news.evaluation / news.evaluations:.0%}" if news.evaluations else f"at {news.evaluation}"
            self._at_work[news.worker] = f"#{news.trial} {progress}{loss}"
        elif news.standing:  # the worker took no trial
            self._at_work.pop(news.worker, None)
        seconds = time.monotonic() - self._shown
        if self._bar is None:
            if seconds > _LOG_SECONDS:
                self._write()
        elif news.standing or seconds > _REFRESH_SECONDS:  # a trial's end is shown at once
            self._refresh("; ".join(filter(None, [self._best, ", ".join(self._at_work.values())])))

    def write(self, text: str) -> None:
        """Write a line above the progress."""
        _Bar.write(text, file=sys.stderr)

    def gone(self, worker: str) -> None:
        """Leave out a worker that has ended."""
        self._at_work.pop(worker, None)

    def close(self) -> None:
        """Leave the line as it is; a log gets its last line."""
        if self._bar is not None:
            self._refresh(self._best)
            self._bar.close()
            self._bar = None
        elif self._phase:
            self._write()

    def _begin(self, news: News) -> None:
        self.close()
        self._phase = news.phase
        self._finished, self._total = (min(news.standing), news.standing[1]) if news.standing else (0, 0)
        self._shown = -math.inf
        if self._terminal:
            # The trials that were finished before count as done, but not for the speed.
            self._bar = _Bar(
                total=self._total,
                initial=self._finished,
                unit=" trial",
                desc=self._name,
                dynamic_ncols=True,
                file=sys.stderr,
            )

    @property
    def _name(self) -> str:
        return self._study if self._phase == "search" else f"{self._study}, {self._phase}"

    def _refresh(self, words: str) -> None:
        """Redraw the bar, which is cut at the edge of the terminal."""
        assert self._bar is not None
        self._bar.total, self._bar.n = self._total, self._finished
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.refresh()
        self._shown = time.monotonic()

    def _write(self) -> None:
        """Write a line of a log, unless it would say the same as the line before."""
        words = filter(None, [f"{self._finished} of {self._total} trials", self._best])
        line = f"{self._name}: {', '.join(words)}"
        if line != self._logged:
            print(line, file=sys.stderr, flush=True)
        self._logged = line
        self._shown = time.monotonic()
