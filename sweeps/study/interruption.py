"""Ctrl-C and termination: each is counted, and raised where that does no harm."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INSISTS = 3  # from so many on, Ctrl-C raises wherever it comes
_AGAIN_SECONDS = 0.05


@dataclass
class Interruption:
    """Counts SIGINT and SIGTERM; the first raises KeyboardInterrupt where that does no harm."""

    times: int = 0
    _may_raise: bool = field(default=False, repr=False)
    _patience: float | None = field(default=None, repr=False)
    _other_hook: Callable[[Any], object] = field(default=sys.__unraisablehook__, repr=False)

    def install(self) -> None:
        """Count the signals from now on. One that another interruption has counted, and nobody acted on, counts too."""
        for number in _SIGNALS:
            before = getattr(signal.getsignal(number), "__self__", None)
            if isinstance(before, Interruption) and before is not self:
                self.times = max(self.times, before.times)
            signal.signal(number, self._handle)
        self._other_hook, sys.unraisablehook = sys.unraisablehook, self._send_again

    @contextmanager
    def watched(self, patience: float | None = None) -> Iterator[None]:
        """While inside, the signals are counted here; in a thread that is not the main one, there are none.

        Args:
            patience: how many seconds after an interruption KeyboardInterrupt is raised wherever it is, because
                something that must not be cut in two takes too long.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
        hook = sys.unraisablehook
        try:
            self._patience = patience
            self.install()
            yield
        finally:
            if self.times and patience is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            sys.unraisablehook = hook
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """While inside, an interruption raises KeyboardInterrupt; one that has come before raises it at once."""
        with self._switched(True):
            self.check()
            yield

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """While inside, an interruption is only counted."""
        with self._switched(False):
            yield

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was an interruption."""
        if self.times:
            raise KeyboardInterrupt

    @contextmanager
    def _switched(self, may_raise: bool) -> Iterator[None]:
        before, self._may_raise = self._may_raise, may_raise
        try:
            yield
        finally:
            self._may_raise = before

    def _handle(self, number: int, frame: object) -> None:
        self.times += 1
        if self.times == 1 and self._patience is not None:
            signal.signal(signal.SIGALRM, _raise)
            signal.setitimer(signal.ITIMER_REAL, self._patience)
        if (self.times == 1 and self._may_raise) or (number == signal.SIGINT and self.times >= _INSISTS):
            raise KeyboardInterrupt

    def _send_again(self, dropped: Any) -> None:
        """Python drops what is raised in a destructor or a callback: an interruption is sent again a moment later."""
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            self.times -= 1
            threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            self._other_hook(dropped)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt
