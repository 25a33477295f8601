"""Addresses, engines and locks of the databases that hold records."""

import hashlib
import os
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from filelock import FileLock
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from sweeps.errors import RequestError

_CONNECT_SECONDS = 5.0
_BUSY_SECONDS = 60.0  # how long a process waits for others that write to the same SQLite file
_PORTS = {"http": 80, "https": 443, "postgresql": 5432}


def resolve_url(key: str, url: str, table: str, must_exist: bool = False) -> str:
    """A URL that means the same from every folder, of a place that can be reached.

    A SQLite path becomes absolute; nothing is written yet. A host is asked whether it answers, because the clients of
    a host that does not answer retry for minutes.

    Args:
        table: a SQLite database that has tables must have this one, or it belongs to another program.
        must_exist: whether a SQLite file must be there already.

    Raises:
        RequestError: not a URL, a host that does not answer, a file that is no such database or cannot be written.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError):
        raise RequestError(
            f"{key} is {re.sub('//[^@/]*@', '//***@', str(url))}; it must be a URL such as "
            "sqlite:///folder/file.db or http://127.0.0.1:5000"
        ) from None
    shown = hide_password(url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise RequestError(f"{key} is {shown}; it must name a file, as sqlite:///folder/file.db does")
        path = Path(os.path.expanduser(parsed.database)).absolute()  # noqa: PTH111 - Path raises where it cannot
        if must_exist and not path.exists():
            raise RequestError(f"{key} is {shown}; there are no records yet: start with makemore sweep")
        _check_sqlite(key, shown, path, table)
        return str(parsed.set(database=str(path)).render_as_string(hide_password=False))
    if parsed.get_backend_name() not in _PORTS:
        known = ", ".join(("sqlite", *_PORTS))
        raise RequestError(f"{key} is {shown}; {parsed.get_backend_name()} is not known here: it must be {known}")
    if not parsed.host and "host" in parsed.query:
        return url  # a Unix socket: its clients say at once whether it answers
    if not parsed.host:
        raise RequestError(f"{key} is {shown}; it must name a host, or be sqlite:///folder/file.db")
    port = parsed.port or _PORTS[parsed.get_backend_name()]
    try:
        socket.create_connection((parsed.host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        reason, where = error.strerror or error, f"{parsed.host}:{port}"
        raise RequestError(f"{key} is {shown}; {where} does not answer ({reason}); start it first") from None
    return url


def hide_password(url: str) -> str:
    """A database's or server's URL as it may be shown and stored."""
    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def locked(url: str, purpose: str) -> Iterator[None]:
    """While inside, no other process on any machine holds the lock for this purpose on the database of a resolved URL.

    The lock ends with the process that holds it. In a SQLite file, purposes with the same first word share a lock. A
    server (http) has no locks: nobody waits.
    """
    path = sqlite_file(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.{purpose.partition(' ')[0]}.lock")):
            yield
    elif make_url(url).get_backend_name() == "postgresql":
        key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big", signed=True)
        engine = create_engine(url, poolclass=NullPool)  # a connection of its own: the lock lives as long
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})
            yield
    else:
        yield


def prepare_sqlite(url: str) -> None:
    """Make the file of a resolved SQLite URL, if there is none, and switch it to a write-ahead log: readers never wait.

    The file remembers the switch. A file that may only be read is left as it is, and so is any other URL.
    """
    path = sqlite_file(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("pragma journal_mode = wal")


_engines: WeakSet[Engine] = WeakSet()


def adopt_engine(engine: Engine, durable: bool = False) -> Engine:
    """The engine, from now on ours: its connections are set up as ours are, and `close_databases` closes them.

    Args:
        durable: whether a commit to a SQLite file survives a power failure, and not only the death of any process. It
            costs milliseconds.
    """
    if engine not in _engines:
        _engines.add(engine)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", partial(_set_up_sqlite, "full" if durable else "normal"))
        engine.dispose()  # connections that were made before
    return engine


def close_databases() -> None:
    """Close the connections of our engines: before a fork, whose child must not share them, and at the end.

    The last connection to a SQLite file brings its write-ahead log into the file.
    """
    for engine in list(_engines):
        engine.dispose()


def _set_up_sqlite(synchronous: str, connection: sqlite3.Connection, record: object) -> None:
    connection.execute(f"pragma synchronous = {synchronous}")
    connection.execute(f"pragma busy_timeout = {_BUSY_SECONDS * 1000:.0f}")


def sqlite_file(url: str) -> Path | None:
    """The file of a resolved SQLite URL; None for another kind of URL."""
    parsed = make_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def _check_sqlite(key: str, url: str, path: Path, table: str) -> None:
    try:
        if path.exists():
            # Asked, and not tried: closing a file drops the locks that this process's connections have on it.
            if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
                raise RequestError(f"{key} is {url}; {path} cannot be written; name another file")
            # Not read-only: what a killed process left half written is rolled back first.
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as database:
                tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            if tables and table not in tables:
                raise RequestError(f"{key} is {url}; {path} is the database of something else; name another file")
            return
        folder = next(parent for parent in path.parents if parent.exists())
    except OSError as error:
        raise RequestError(f"{key} is {url}; {path} cannot be written ({error.strerror}); name another file") from None
    except sqlite3.DatabaseError:
        raise RequestError(f"{key} is {url}; {path} is not a SQLite database; name another file") from None
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RequestError(f"{key} is {url}; nothing can be written in {folder}; name another folder")
