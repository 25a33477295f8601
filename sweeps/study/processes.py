"""The workers of a study on this machine: started, watched, replaced when they die, shown, ended by Ctrl-C."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle
import torch
from hydra.core.singleton import Singleton
from tqdm import tqdm

from sweeps.databases import close_databases
from sweeps.errors import RequestError
from sweeps.study.worker import Interruption, News, Plan, Worker, worker_name
from sweeps.trials.storage import quiet_optuna

_LINE_SECONDS = 0.1
_LOOK_SECONDS = 0.5
_BARREN = 3  # workers that die before they took a trial: there is no use in starting more


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_method(device: str) -> str:
    """How a worker's process is made: a fork has all that was imported and read, but is not safe everywhere."""
    return "fork" if sys.platform == "linux" and device == "cpu" else "spawn"


class ProgressLine:
    """Trials finished, the best so far, and what each worker is doing, in one line on standard error."""

    def __init__(self, study: str) -> None:
        self._study, self._phase = study, ""
        self._bar: tqdm[Any] | None = None
        self._at_work: dict[str, str] = {}
        self._best = ""
        self._refreshed = 0.0

    def show(self, news: News) -> None:
        """Bring the line up to date."""
        if news.failure:
            tqdm.write(news.failure, file=sys.stderr)
        if news.phase == "search" and self._phase == "confirm":  # of one that has not heard that the search is over
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
        elif news.standing:  # it took nothing
            self._at_work.pop(news.worker, None)
        bar.set_postfix_str("; ".join(filter(None, [self._best, ", ".join(self._at_work.values())])), refresh=False)
        # A trial's end is shown at once. What happens in between moves a terminal's line, and not a log's.
        if news.standing or (sys.stderr.isatty() and time.monotonic() - self._refreshed > _LINE_SECONDS):
            bar.refresh()
            self._refreshed = time.monotonic()

    def gone(self, worker: str) -> None:
        """A worker has ended."""
        self._at_work.pop(worker, None)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._best)
            self._bar.close()

    def _open(self, phase: str, total: int) -> "tqdm[Any]":
        if self._bar is None or phase != self._phase:
            self.close()
            self._phase = phase
            description = self._study if phase == "search" else f"{self._study}, {phase}"
            tqdm.monitor_interval = 0  # no thread: this process is going to be forked
            self._bar = tqdm(total=total, unit="trial", desc=description, file=sys.stderr)
        return self._bar


@dataclass
class _Process:
    """A worker in a process of its own."""

    name: str
    process: BaseProcess
    news: Connection
    took_a_trial: bool = False
    error: BaseException | None = None


class Processes:
    """Workers of a study, each in a process of its own."""

    def __init__(
        self, plan: Plan, show: Callable[[News], None], gone: Callable[[str], None], bury: Callable[[str], None]
    ) -> None:
        self._plan, self._show, self._gone, self._bury = plan, show, gone, bury
        self._context: Any = multiprocessing.get_context(start_method(plan.cfg.device))
        # Not all that Hydra keeps can go through the pickle of the standard library.
        self._knowledge = cloudpickle.dumps((plan, Singleton.get_state()))
        self._interruption = Interruption()
        self._alive: list[_Process] = []

    def run(self, meanwhile: Callable[[], None]) -> None:
        """Run `study.workers` workers until each has ended; one that dies is replaced.

        Args:
            meanwhile: called once they are at work.

        Raises:
            KeyboardInterrupt: the workers were told to end, and did.
            Exception: what a worker raised.
        """
        with self._interruption.watched():
            try:
                self._watch(meanwhile)
            finally:
                for one in self._alive:
                    one.process.kill()
                    one.process.join()
        if self._interruption.times:
            raise KeyboardInterrupt

    def _watch(self, meanwhile: Callable[[], None]) -> None:
        barren = 0
        errors: list[BaseException] = []
        for _ in range(self._plan.workers):
            self._start()
        meanwhile()
        while self._alive:
            multiprocessing.connection.wait(
                [handle for one in self._alive for handle in (one.news, one.process.sentinel)], _LOOK_SECONDS
            )
            if self._interruption.times:
                for one in self._alive:  # again each time round: the first signal may find a worker not yet listening
                    (one.process.terminate if self._interruption.times == 1 else one.process.kill)()
            for one in list(self._alive):
                self._read(one)
                if one.process.is_alive():
                    continue
                self._read(one)
                self._remove(one)
                if one.error is not None:
                    errors.append(one.error)
                elif one.process.exitcode != 0:
                    self._bury(one.name)
                    barren += not one.took_a_trial and not self._interruption.times
                    if barren >= _BARREN:
                        errors.append(RuntimeError(f"{barren} workers died before they could take a trial"))
                    elif not self._interruption.times and not errors:
                        self._start()
        if errors and not self._interruption.times:
            raise errors[0]

    def _start(self) -> None:
        close_databases()  # a fork must not inherit a connection
        token = uuid.uuid4().hex[:8]
        news, sender = self._context.Pipe(duplex=False)
        # A reader that a fork inherits would keep its pipe open when this process, the only one that reads, is gone.
        inherited = [news, *(one.news for one in self._alive)] if self._context.get_start_method() == "fork" else []
        process = self._context.Process(target=_work, args=(self._knowledge, token, sender, inherited), daemon=True)
        process.start()
        sender.close()
        self._alive.append(_Process(worker_name(process.pid, token), process, news))

    def _read(self, one: _Process) -> None:
        try:
            while one.news.poll():
                news = one.news.recv()
                if isinstance(news, BaseException):
                    one.error = news
                else:
                    one.took_a_trial |= news.trial is not None
                    self._show(news)
        except (EOFError, OSError):  # the end, or a worker killed in mid sentence
            return

    def _remove(self, one: _Process) -> None:
        one.process.join()
        one.news.close()
        self._alive.remove(one)
        self._gone(one.name)


def _work(knowledge: bytes, token: str, news: Connection, inherited: list[Connection]) -> None:
    """What a worker's process does."""
    for reader in inherited:
        reader.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what this process was forked with
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; whoever started this one decides
    quiet_optuna()
    plan, hydra_state = cloudpickle.loads(knowledge)
    Singleton.set_state(hydra_state)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def show(one: News) -> None:
        with suppress(OSError):  # nobody is there any more; goes_on will tell
            news.send(one)

    try:
        Worker(plan, show, worker_name(os.getpid(), token), goes_on=lambda: parent is None or parent.is_alive()).run()
    except KeyboardInterrupt:
        return
    except Exception as error:
        known = isinstance(error, RequestError)
        with suppress(OSError):
            news.send(error if known else RuntimeError(f"{type(error).__name__}: {error}"))
