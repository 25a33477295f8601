"""The workers of a study on this machine: started, watched, replaced when they die, ended by Ctrl-C."""

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
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

from sweeps.config.messages import reason
from sweeps.connections import told_to
from sweeps.databases import close_databases
from sweeps.errors import NotRecorded, RequestError
from sweeps.study.interruption import Interruption
from sweeps.study.plan import Plan
from sweeps.study.progress import News
from sweeps.study.worker import PATIENCE_SECONDS, Worker, worker_name
from sweeps.trials.storage import quiet_optuna

_WAIT_SECONDS = 0.5  # for news, before the workers are looked at again
_MOST_EARLY_DEATHS = 3  # of workers that took no trial: there is no use in starting more


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name.strip() for name in given.split(",") if name.strip()]


def start_method(device: str) -> str:
    """How a worker's process is made: a fork has all that was imported and read, but is not safe everywhere."""
    return "fork" if sys.platform == "linux" and device == "cpu" else "spawn"


@dataclass
class _Process:
    """A worker in a process of its own."""

    name: str
    process: BaseProcess
    news: Connection
    place: int  # among the workers that run
    took_a_trial: bool = False
    error: BaseException | None = None


class Processes:
    """The workers of a study, each in a process of its own."""

    def __init__(
        self,
        plan: Plan,
        show: Callable[[News], None],
        gone: Callable[[str], None],
        bury: Callable[[str], None],
        method: str | None = None,
    ) -> None:
        """Prepare to start workers.

        Args:
            show: is told what a worker does.
            gone: is told the name of a worker that has ended.
            bury: is told the name of a worker that has died, whose trials are dead, too.
            method: how processes are made, if not as `start_method` says.
        """
        self._plan, self._show, self._gone, self._bury = plan, show, gone, bury
        self._context: Any = multiprocessing.get_context(method or start_method(plan.cfg.device))
        # The pickle of the standard library cannot take all that Hydra keeps.
        self._knowledge = cloudpickle.dumps((plan, Singleton.get_state()))
        # A language model says where it trains; a user's own task may train anywhere.
        uses_devices = plan.cfg.device == "cuda" or plan.cfg.hydra.runtime.choices["task"] != "language_model"
        self._devices = visible_devices() if uses_devices else []
        self._interruption = Interruption()
        self._workers: list[_Process] = []
        self._early_deaths = 0
        self._errors: list[BaseException] = []

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run `study.workers` workers until each has ended; a worker that dies is replaced.

        Args:
            meanwhile: called once they are at work.

        Raises:
            KeyboardInterrupt: the workers were told to end, and did.
            Exception: what a worker raised.
        """
        with self._interruption.watched(PATIENCE_SECONDS + 2 * _WAIT_SECONDS):
            try:
                for _ in range(self._plan.workers):
                    self._start()
                meanwhile()
                while self._workers:
                    self._watch()
            finally:
                for worker in self._workers:
                    worker.process.kill()
                    worker.process.join()
        self._interruption.check()
        if self._errors:
            raise self._errors[0]

    def _start(self) -> None:
        close_databases()  # a fork must not inherit a connection
        token = uuid.uuid4().hex[:8]
        news, sender = self._context.Pipe(duplex=False)
        # A reader that a fork inherits would keep its pipe open when this process, the only one that reads, is gone.
        forks = self._context.get_start_method() == "fork"
        inherited = [news, *(worker.news for worker in self._workers)] if forks else []
        taken = {worker.place for worker in self._workers}
        place = next(number for number in itertools.count() if number not in taken)
        device = self._devices[place % len(self._devices)] if self._devices else None
        arguments = (self._knowledge, token, sender, inherited, device)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        sender.close()
        self._workers.append(_Process(worker_name(process.pid, token), process, news, place))

    def _watch(self) -> None:
        """Wait for news or a death, and pass on what there is of both."""
        handles = [handle for worker in self._workers for handle in (worker.news, worker.process.sentinel)]
        multiprocessing.connection.wait(handles, _WAIT_SECONDS)
        if self._interruption.times:
            for worker in self._workers:  # each time again: a signal may reach a worker that does not listen yet
                (worker.process.terminate if self._interruption.times == 1 else worker.process.kill)()
        for worker in list(self._workers):
            alive = worker.process.is_alive()  # asked first: what a worker that has ended said is there to be read
            self._read(worker)
            if not alive:
                self._remove(worker)

    def _read(self, worker: _Process) -> None:
        try:
            while worker.news.poll():
                news = worker.news.recv()
                if isinstance(news, BaseException):
                    worker.error = news
                else:
                    worker.took_a_trial |= news.trial is not None
                    self._show(news)
        except (EOFError, OSError):  # the end, or a worker that was killed in mid sentence
            return

    def _remove(self, worker: _Process) -> None:
        """Note how a worker ended, and replace it if it died."""
        worker.process.join()
        worker.news.close()
        self._workers.remove(worker)
        self._gone(worker.name)
        if worker.error is not None:
            self._errors.append(worker.error)
        elif worker.process.exitcode != 0:
            self._bury(worker.name)
            if self._interruption.times:
                return
            self._early_deaths += not worker.took_a_trial
            if self._early_deaths >= _MOST_EARLY_DEATHS:
                deaths = f"{self._early_deaths} workers died before they could take a trial"
                self._errors.append(RuntimeError(deaths))
            elif not self._errors:
                self._start()


def _work(knowledge: bytes, token: str, news: Connection, inherited: list[Connection], device: str | None) -> None:
    """What a worker's process does; of several CUDA devices, it sees one."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    for reader in inherited:
        reader.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what this process was forked with
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all; whoever started this one decides
    quiet_optuna()
    plan, hydra_state = cloudpickle.loads(knowledge)
    Singleton.set_state(hydra_state)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def show(what: News) -> None:
        with suppress(OSError):  # nobody reads any more; goes_on will say so
            news.send(what)

    name = worker_name(os.getpid(), token)
    try:
        with told_to(lambda line: show(News(name, waits=line))):
            Worker(plan, show, name, goes_on=lambda: parent is None or parent.is_alive()).run()
    except KeyboardInterrupt:
        return
    except Exception as error:
        known = isinstance(error, RequestError | NotRecorded)
        with suppress(OSError):
            news.send(error if known else RuntimeError(reason(error)))
