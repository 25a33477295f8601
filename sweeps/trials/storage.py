"""Optuna's storage of studies: opened, its logging quietened, and the heartbeats of running trials in it."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from sweeps.databases import adopt_engine, hide_password, prepare_sqlite
from sweeps.errors import RequestError
from sweeps.trials.seal import create_looks

BEAT_SECONDS = 5
GRACE_SECONDS = 15  # without a heartbeat, by the database's clock, until a trial counts as dead
UNUSABLE = (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError)  # what Optuna raises for a bad database
AWAY = (SQLAlchemyError, StorageInternalError)  # what is raised where a database is busy or away for a moment


def quiet_optuna() -> None:
    """Leave out what Optuna logs below warnings: for a process that is ours."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, create: bool = False) -> RDBStorage:
    """Optuna's storage at a resolved URL.

    Args:
        create: whether a database without tables is given them; only while inside `locked(url, "schema")`.

    Raises:
        RequestError: the database cannot be used.
    """
    try:
        if create:
            prepare_sqlite(url, _make_tables)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of heartbeats
            storage = RDBStorage(url, heartbeat_interval=BEAT_SECONDS, grace_period=GRACE_SECONDS)
    except UNUSABLE as error:
        raise unusable(url, error) from None
    adopt_engine(storage.engine)
    return storage


def _make_tables(url: str) -> None:
    storage = RDBStorage(url)
    create_looks(storage.engine)
    storage.remove_session()
    storage.engine.dispose()


def unusable(url: str, error: Exception) -> RequestError:
    """What a user is told of a study's database that cannot be used."""
    reason = str(error).splitlines()[0]
    return RequestError(f"study.storage is {hide_password(url)}; it cannot be used ({reason})")


@contextmanager
def beating(storage: RDBStorage, trial_id: int, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """While inside, a thread records a heartbeat of the trial every so many seconds."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(seconds):
            with suppress(*AWAY):  # the next beat will do
                storage.record_heartbeat(trial_id)
            storage.remove_session()  # of this thread

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
