"""Checkpoints of long trials: a trial whose worker dies goes on from its last one, as if it had not died.

A checkpoint is a file of the trial's run in MLflow, written at an evaluation. The trial's attributes in Optuna say
which run has it, so that its retry finds it from any machine.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.config.messages import one_line
from sweeps.task.checkpoint_config import CheckpointConfig
from sweeps.task.state import read_state, write_state
from sweeps.task.task import State
from sweeps.tracking.artifacts import find_artifact, remove_artifact
from sweeps.tracking.quiet import short_waits
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore

FILE = "checkpoint.safetensors"
_LONG_SECONDS = 60.0  # a trial that trains longer has checkpoints unless told otherwise


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    run_id: str
    curve: Sequence[Mapping[str, float]]  # what had been reported: for each evaluation its step, dev_loss and so on
    seconds: float  # of training until then
    state: State

    @property
    def step(self) -> int:
        """The step from which training goes on."""
        return int(self.curve[-1]["step"])


@dataclass
class Checkpoints:
    """The checkpoints of one trial, which has a run for each of its seeds."""

    config: CheckpointConfig
    store: TrackingStore
    known: dict[str, str]  # for each seed, the run that has its last checkpoint; from an earlier attempt at the trial
    announce: Callable[[dict[str, str]], None]  # is told when `known` changes
    evaluations: int | None  # how many there will be in all; None: unknown
    seeds: int = 1
    _started: float = field(default_factory=time.monotonic)
    _seconds_before: float = 0.0  # that earlier attempts have trained
    _written: float = field(default_factory=time.monotonic)
    _count: int = 0
    _failed: bool = False

    def find(self, seed: int, identity: str) -> Checkpoint | None:
        """The last checkpoint of the training with a seed; None if there is none that can be used.

        Args:
            identity: of the run's config and items, which must be the checkpoint's.
        """
        run_id = self.known.get(str(seed))
        if run_id is None or self.config.checkpoint is False:
            return None
        try:
            path = find_artifact(self.store, run_id, FILE)
            if path is None:
                raise FileNotFoundError("it cannot be reached from here")
            held = read_state(path)
            if held["identity"] != identity:
                raise ValueError("it belongs to another config or other items")
            found = Checkpoint(run_id, held["curve"], held["seconds"], held["state"])
        except Exception as error:  # whatever is wrong with it, training can begin at the beginning
            _say(f"the checkpoint in run {run_id} is not used, so its training begins anew: {one_line(error)}")
            return None
        self._seconds_before += found.seconds
        return found

    def note_evaluation(self) -> None:
        """Count an evaluation, from which the length of the trial is guessed."""
        self._count += 1

    def is_due(self, last: bool) -> bool:
        """Whether a checkpoint is to be written.

        Args:
            last: whether this is the last evaluation with a seed: then one is written only where other seeds follow,
                so that a trial that dies while it trains with those need not train with this one again.
        """
        if self.config.checkpoint is False or (last and self.seeds == 1):
            return False
        now = time.monotonic()
        if self.config.checkpoint is None:
            seconds = self._seconds_before + now - self._started
            in_all = seconds * self.evaluations / self._count if self.evaluations else seconds
            if in_all < _LONG_SECONDS:
                return False
        return last or now - self._written >= self.config.every

    def write(
        self,
        run: TrackedRun,
        seed: int,
        identity: str,
        curve: Sequence[Mapping[str, float]],
        seconds: float,
        state: State,
    ) -> None:
        """Store a checkpoint with its run. If that fails, a line says so once, and training goes on.

        Raises:
            TypeError: the task's state has something in it that cannot be kept.
        """
        held: dict[str, Any] = {"identity": identity, "curve": [dict(point) for point in curve], "seconds": seconds}
        try:
            with tempfile.TemporaryDirectory(prefix="makemore-") as folder, short_waits():
                write_state(Path(folder) / FILE, {**held, "state": state})
                run.client.log_artifact(run.run_id, str(Path(folder) / FILE))
            before = self.known.get(str(seed))
            if before != run.run_id:
                self.known = {**self.known, str(seed): run.run_id}
                self.announce(self.known)
                if before is not None:
                    remove_artifact(self.store, before, FILE)
        except TypeError:
            raise
        except Exception as error:
            if not self._failed:
                _say(f"no checkpoint of run {run.run_id} could be written: {one_line(error)}")
            self._failed = True
        self._written = time.monotonic()

    def drop(self) -> None:
        """Delete the checkpoints: the trial has ended, and is not tried again."""
        for run_id in self.known.values():
            with suppress(Exception):  # a file too many harms nobody
                remove_artifact(self.store, run_id, FILE)


def _say(line: str) -> None:
    print(f"makemore: {line}", file=sys.stderr)
