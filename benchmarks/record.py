"""How long recording a study takes: the share of its wall clock that goes into MLflow, files and pictures.

    python benchmarks/record.py [--rounds N] [--trials N] [--json PATH]

`space=mlp`, one worker, SQLite, a whole study with its confirmation. Everything is counted that serves the record and
not the search: opening and closing runs, the params, metrics, weights, samples and diagnosis of each trial, and the
notes, leaderboard, pictures and registered model of the study, with the imports that they need.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from common import finish, parse_arguments

import sweeps.study.runs
import sweeps.study.study
from sweeps.cli import run
from sweeps.study.report import StudyReport
from sweeps.study.runs import OpenRun
from sweeps.tracking.runs import TrackedRun

RECORDING = [
    (sweeps.study.runs, ("start_run",)),
    (sweeps.study.study, ("open_record", "running")),
    (TrackedRun, ("log_metrics", "log_tags", "flush", "end")),
    (OpenRun, ("keep",)),
    (StudyReport, ("update_if_due", "close")),
]


class Stopwatch:
    """Adds up the seconds of timed functions; a timed function that another one calls is counted once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds += time.perf_counter() - start

        return call


def measure(trials: int, *more: str) -> dict[str, Any]:
    stopwatch = Stopwatch()
    patches = [
        mock.patch.object(kind, name, stopwatch.timed(getattr(kind, name)))
        for kind, names in RECORDING
        for name in names
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for patch in patches:
            patch.start()
        start = time.perf_counter()
        assert run(["sweep", "study.name=record", "study.workers=1", f"study.n_trials={trials}", *more]) == 0
        wall = time.perf_counter() - start
        mock.patch.stopall()
        os.chdir(Path(__file__).parent)
    return {
        "study": " ".join(more) or "the default space",
        "trials": trials,
        "wall s": wall,
        "record s": stopwatch.seconds,
        "share %": 100 * stopwatch.seconds / wall,
    }


def main() -> None:
    parser = parse_arguments(__doc__.splitlines()[0], rounds=1)
    parser.add_argument("--trials", type=int, default=30)
    arguments = parser.parse_args()
    rows = []
    for _ in range(arguments.rounds):
        rows.append(measure(arguments.trials, "space=mlp") | {"under %": 3})
        rows.append(measure(arguments.trials))
    finish(rows, "given_names", arguments.json)


if __name__ == "__main__":
    main()
