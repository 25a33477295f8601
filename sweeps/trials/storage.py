"""Optuna's storage of studies: opened, its logging quietened, and the heartbeats of running trials in it."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sweeps.connections import PATIENCE_SECONDS, ConnectionLost, give_back_connection, is_lost, patiently
from sweeps.databases import (
    adopt_engine,
    hide_password,
    lock_transaction,
    prepare_sqlite,
    sqlite_file,
)
from sweeps.errors import RequestError
from sweeps.trials.seal import create_looks

BEAT_SECONDS = 5
GRACE_SECONDS = 15  # without a heartbeat, by the database's clock, until a trial counts as dead
# Threads take turns with it, and wait as long for one another as for the server.
_ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": PATIENCE_SECONDS, "pool_pre_ping": True}
_open: dict[str, RDBStorage] = {}  # by URL
_alone_in_process = threading.Lock()
UNUSABLE = (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError)  # what Optuna raises for a bad database
AWAY = (SQLAlchemyError, StorageInternalError)  # what is raised where a database is busy or away for a moment


def quiet_optuna() -> None:
    """Leave out what Optuna logs below warnings: for a process that is ours."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(url: str, create: bool = False) -> RDBStorage:
    """Optuna's storage at a resolved URL.

    A process has one storage for a PostgreSQL database, with one connection; a fork of the process goes on with it.

    Args:
        create: whether a database without tables is given them; only while inside `locked(url, "schema")`.

    Raises:
        RequestError: the database cannot be used.
    """
    if is_open(url):
        return _open[url]
    shares = sqlite_file(url) is None
    try:
        if create:
            prepare_sqlite(url, _make_tables)
        storage = patiently(lambda: _open_shared(url)) if shares else _storage(url)
    except UNUSABLE as error:
        raise unusable(url, error) from None
    adopt_engine(storage.engine)
    if shares:
        _open[url] = storage
    return storage


def _open_shared(url: str) -> RDBStorage:
    _storage(url, {"poolclass": NullPool})  # makes or checks the tables, which takes two connections at once
    return _storage(url, dict(_ONE_CONNECTION), skip_table_creation=True, skip_compatibility_check=True)


def _storage(url: str, engine_kwargs: dict[str, Any] | None = None, **options: Any) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of heartbeats
        return RDBStorage(url, engine_kwargs, heartbeat_interval=BEAT_SECONDS, grace_period=GRACE_SECONDS, **options)


def is_open(url: str) -> bool:
    """Whether this process has opened the storage of a PostgreSQL database, whose tables are then there."""
    return url in _open


@contextmanager
def one_transaction(storage: RDBStorage, purpose: str) -> Iterator[Connection]:
    """While inside, nobody else holds the lock for this purpose, and all that Optuna does is one transaction.

    It is for PostgreSQL. The lock, what is read under it and what is written take one connection, and are committed as
    a whole or not at all. The other threads of this process wait before they beat.

    Raises:
        ConnectionLost: nothing was done; it may be tried again.
    """
    with _alone_in_process:
        storage.remove_session()
        with storage.engine.begin() as connection:
            lock_transaction(connection, purpose)
            # Savepoints would let Optuna undo a part of it, and take a third of all statements.
            storage.scoped_session.configure(bind=connection, join_transaction_mode="rollback_only")
            try:
                yield connection
            except Exception as error:
                if _is_undone(connection) and not is_lost(error):
                    raise ConnectionLost from error
                raise
            finally:
                storage.remove_session()
                storage.scoped_session.configure(bind=storage.engine, join_transaction_mode="conditional_savepoint")
            if _is_undone(connection):
                raise ConnectionLost


def _is_undone(connection: Connection) -> bool:
    """Whether the connection was lost, or Optuna has undone its transaction: two processes have ended one trial."""
    transaction = connection.get_transaction()
    return connection.invalidated or transaction is None or not transaction.is_active


def has_heard_beats(connection: Connection) -> bool:
    """Whether a PostgreSQL server has been up for so long that every living worker has beaten since."""
    up = text("select clock_timestamp() - pg_postmaster_start_time() > make_interval(secs => :seconds)")
    return bool(connection.execute(up, {"seconds": GRACE_SECONDS}).scalar())


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
            with _alone_in_process, suppress(*AWAY):  # the next beat will do
                storage.record_heartbeat(trial_id)
            storage.remove_session()  # of this thread
            if is_open(storage.url):
                with suppress(SQLAlchemyError):
                    give_back_connection(storage.engine)  # a training that takes long needs none between two beats

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
