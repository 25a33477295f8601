import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from conftest import Makemore, call
from omegaconf import OmegaConf
from sqlalchemy import create_engine, text

from sweeps.databases import adopt_engine, close_databases, hide_password, resolve_url
from sweeps.errors import RequestError
from sweeps.tracking.queries import find_study_run
from sweeps.tracking.registry import read_champion
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.trials import Trials

SECRET = "postgresql+psycopg://me:xyzzy42@127.0.0.1:9/db"


def test_a_relative_sqlite_path_becomes_absolute_and_nothing_is_written(workdir: Path) -> None:
    assert resolve_url("key", "sqlite:///a/b.db", "studies") == f"sqlite+pysqlite:///{workdir}/a/b.db"
    assert not (workdir / "a").exists()


def test_no_message_shows_a_password() -> None:
    assert hide_password(SECRET) == "postgresql+psycopg://me:***@127.0.0.1:9/db"
    with pytest.raises(RequestError) as error:
        resolve_url("study.storage", SECRET, "studies")
    assert "does not answer" in str(error.value)
    assert "xyzzy42" not in str(error.value)


def test_no_password_is_shown_in_a_url_that_cannot_be_read(makemore: Makemore, workdir: Path) -> None:
    answer = makemore("sweep", "study.storage='postgresql+psycopg://me:xyzzy42@127.0.0.1:54x/db'")
    assert answer.code == 2
    assert "xyzzy42" not in answer.err


def test_no_record_of_a_run_holds_a_password(makemore: Makemore, workdir: Path) -> None:
    # A single run needs no study's storage, but its recorded config names it.
    assert makemore("train", f"study.storage='{SECRET}'", "train.steps=5", "train.evaluations=1").code == 0
    [config] = (workdir / "mlruns/artifacts").rglob("config.yaml")
    assert "me:***@127.0.0.1" in config.read_text()
    assert not any(b"xyzzy42" in path.read_bytes() for path in (workdir / "mlruns").rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_study_and_its_runs_can_be_kept_in_postgresql(tmp_path: Path, postgresql: tuple[str, str]) -> None:
    study, uri = postgresql[0], f"tracking.uri='{postgresql[1]}'"
    tiny = ("pruner=none", "train.steps=20", "train.evaluations=2")
    for total in (2, 3):
        call(tmp_path, "sweep", "study.name=a", f"study.n_trials={total}", f"study.storage='{study}'", uri, *tiny)
    table = json.loads(call(tmp_path, "compare", "study.name=a", "format=json", uri))
    assert sorted(row["trial"] for row in table) == [0, 1, 2]
    assert not list(tmp_path.rglob("*.db"))


def test_our_engines_are_set_up_and_nobody_elses(workdir: Path) -> None:
    trials = Trials(f"sqlite:///{workdir}/study.db", "a")
    store = open_store(workdir)
    other = create_engine(f"sqlite:///{workdir}/other.db")
    looks = adopt_engine(create_engine(trials.url), durable=True)
    settings = {}
    for name, engine in (("trials", trials.storage.engine), ("looks", looks), ("other", other)):
        with engine.connect() as connection:
            settings[name] = tuple(
                connection.execute(text(f"pragma {pragma}")).scalar() for pragma in ("journal_mode", "synchronous")
            )
        engine.dispose()
    assert settings == {"trials": ("wal", 1), "looks": ("wal", 2), "other": ("delete", 2)}
    with closing(sqlite3.connect(workdir / "mlruns/mlflow.db")) as database:
        assert database.execute("pragma journal_mode").fetchone() == ("wal",)
    assert find_study_run(store, "a") is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc that lists open files")
def test_a_process_that_has_closed_its_databases_has_no_file_of_them_open(workdir: Path) -> None:
    trials, store = Trials(f"sqlite:///{workdir}/study.db", "a"), open_store(workdir)
    trials.take("me", lambda standing: True)
    find_study_run(store, "a")
    read_champion(store, "a", "0")  # in the registry, which has an engine of its own
    assert {path.name for path in open_files(workdir)} >= {"study.db", "mlflow.db"}
    close_databases()
    assert not open_files(workdir)
    assert not list(workdir.rglob("*-wal"))  # all is in the one file
    trials.take("me", lambda standing: True)  # and opened again where it is needed
    assert trials.standing().running == 2
    close_databases()


def open_store(folder: Path) -> TrackingStore:
    tracking = {"uri": f"sqlite:///{folder}/mlruns/mlflow.db", "experiment": "makemore", "artifacts": None}
    return open_tracking(OmegaConf.create({"tracking": tracking}))


def open_files(folder: Path) -> list[Path]:
    """What this process has open below a folder."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them
            targets.append(descriptor.readlink())
    return [target for target in targets if target.is_relative_to(folder)]
