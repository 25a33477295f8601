"""Ctrl-C and termination, which end a worker between two trials or in the middle of a training, and nowhere else."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Interruption:
    """Counts SIGINT and SIGTERM; the first raises KeyboardInterrupt where that does no harm."""

    times: int = 0
    _may_raise: bool = field(default=False, repr=False)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While inside, the signals are counted here; in a thread that is not the main one, there are none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """While inside, an interruption raises KeyboardInterrupt; one that has come before raises it at once."""
        with self._switched(True):
            if self.times:
                raise KeyboardInterrupt
            yield

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """While inside, an interruption is only counted."""
        with self._switched(False):
            yield

    @contextmanager
    def _switched(self, may_raise: bool) -> Iterator[None]:
        before, self._may_raise = self._may_raise, may_raise
        try:
            yield
        finally:
            self._may_raise = before

    def _handle(self, number: int, frame: object) -> None:
        self.times += 1
        if self.times == 1 and self._may_raise:
            raise KeyboardInterrupt
