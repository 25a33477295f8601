"""Addresses, engines and locks of the databases that hold records."""

import atexit
import functools
import hashlib
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from glob import escape
from pathlib import Path
from urllib.parse import quote
from weakref import WeakSet

from filelock import FileLock
from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from sweeps.connections import watch_connections
from sweeps.errors import RequestError, hide_passwords

_CONNECT_SECONDS = 5.0
_BUSY_SECONDS = 60.0  # how long a process waits for others that write to the same SQLite file
_SQLITE = "sqlite+pysqlite"  # see sqlite_url
_PORTS = {"http": 80, "https": 443, "postgresql": 5432}


class NoRecords(RequestError):
    """There are no records yet, where some were to be read."""


def resolve_url(key: str, url: str, table: str, must_exist: bool = False, writes: bool = True) -> str:
    """A URL that means the same from every folder, of a place that can be reached.

    A SQLite path becomes absolute, in the spelling of `sqlite_url`; nothing is written yet. A host is asked whether it
    answers, because the clients of a host that does not answer retry for minutes.

    Args:
        table: a SQLite database that has tables must have this one, or it belongs to another program.
        must_exist: whether a SQLite file must be there already, with tables.
        writes: False where nothing is going to be written. A SQLite file that may only be read is then copied, because
            Optuna and MLflow open a file for writing, and the URL is that of the copy.

    Raises:
        NoRecords: a SQLite file that must exist does not, or has no tables.
        RequestError: not a URL, a host that does not answer, a file that is no such database or cannot be written.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError):
        raise RequestError(
            f"{key} is {hide_passwords(re.sub('//[^@/]*@', '//***@', str(url)))}; it must be a URL such as "
            "sqlite:///folder/file.db or http://127.0.0.1:5000"
        ) from None
    shown = hide_password(url)
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise RequestError(f"{key} is {shown}; it must name a file, as sqlite:///folder/file.db does")
        path = Path(os.path.expanduser(parsed.database)).absolute()  # noqa: PTH111 - Path raises where it cannot
        check_link(key, shown, path)
        if not writes and path.is_file() and os.access(path, os.R_OK) and not _is_writable(path):
            path = _copy_to_read(path)
        tables = _check_sqlite(key, shown, path, table) if writes or path.exists() else set()
        if must_exist and not tables:
            raise NoRecords(f"{key} is {shown}; there are no records yet: start with makemore sweep")
        return str(parsed.set(drivername=_SQLITE, database=str(path)).render_as_string(hide_password=False))
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


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, as Optuna and MLflow are given it.

    SQLAlchemy encodes some characters of a path with `%`. From a URL that begins with `sqlite:///` MLflow would take
    the encoded text for a path, and make a folder of that name; from one that names the driver it does not.
    """
    return URL.create(_SQLITE, database=str(path)).render_as_string(hide_password=False)


def hide_password(url: str) -> str:
    """A database's or server's URL as it may be shown and stored: without its password; a SQLite path in plain text."""
    parsed = make_url(url)
    shown = hide_passwords(parsed.render_as_string(hide_password=True))
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return shown
    path = re.sub("%(?=[0-9A-Fa-f]{2})", "%25", parsed.database).replace("?", "%3F")  # what would be read otherwise
    _, mark, query = shown.partition("?")
    return f"sqlite:///{path}{mark}{query}"


@contextmanager
def locked(url: str, purpose: str) -> Iterator[None]:
    """While inside, no other process on any machine holds the lock for this purpose on the database of a resolved URL.

    The lock ends with the process that holds it. In a SQLite file, purposes with the same first word share a lock. A
    server (http) has no locks: nobody waits.
    """
    path = sqlite_file(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path = Path(os.path.realpath(path))  # a link and its file have the same lock
        with FileLock(path.with_name(f".{path.name}.{purpose.partition(' ')[0]}.lock")):
            yield
    elif make_url(url).get_backend_name() == "postgresql":
        with adopt_engine(create_engine(url, poolclass=NullPool)).begin() as connection:  # the lock lives as long
            lock_transaction(connection, purpose)
            yield
    else:
        yield


def lock_transaction(connection: Connection, purpose: str) -> None:
    """Wait until no other transaction on a PostgreSQL database holds the lock for this purpose, and hold it."""
    key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "big", signed=True)
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})


def prepare_sqlite(url: str, fill: Callable[[str], None]) -> None:
    """Make the file of a resolved SQLite URL, if it has no tables yet, and let its readers never wait for its writer.

    Only while inside `locked(url, "schema")`. The file appears whole or not at all: it is filled under another name,
    and a process that is killed meanwhile leaves only that. Nothing is done for another kind of URL.

    Args:
        fill: makes all tables of the database whose URL it is given, and closes its connections.
    """
    path = sqlite_file(url)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not _tables(path):
        _fill(path, fill)
    # The file remembers that it has a write-ahead log. A file that may only be read is left as it is.
    with suppress(sqlite3.OperationalError), connect_sqlite(path) as connection:
        connection.execute("pragma journal_mode = wal")


def _fill(path: Path, fill: Callable[[str], None]) -> None:
    def remove_unfinished() -> None:
        for unfinished in path.parent.glob(f".{escape(path.name)}.*.new*"):
            unfinished.unlink(missing_ok=True)

    remove_unfinished()  # of a process that was killed
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    try:
        fill(sqlite_url(new))
        new.replace(path)
    finally:
        remove_unfinished()


@contextmanager
def connect_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an existing SQLite file; what is written is committed at the end."""
    # Not read-only: what a killed process left half written is rolled back first.
    uri = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection, connection:
        yield connection


def _tables(path: Path) -> set[str]:
    with connect_sqlite(path) as connection:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


def has_table(url: str, table: str) -> bool:
    """Whether the database of a resolved URL exists and has a table; nothing is made."""
    path = sqlite_file(url)
    if path is not None:
        return path.exists() and table in _tables(path)
    return inspect(adopt_engine(create_engine(url, poolclass=NullPool))).has_table(table)


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
        else:
            watch_connections(engine)
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


def check_folder(key: str, shown: str, folder: Path) -> None:
    """Raise RequestError unless files can be made in a folder, which need not be there yet."""
    check_link(key, shown, folder)
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not nearest.is_dir():
        raise RequestError(f"{key} is {shown}; {nearest} is not a folder: move it away, or name another")
    if not os.access(nearest, os.W_OK):
        raise RequestError(f"{key} is {shown}; nothing can be written in {nearest}; name another folder")


def check_link(key: str, shown: str, path: Path) -> None:
    """Raise RequestError if a path, or a folder above it, is a link that leads nowhere."""
    for link in (path, *path.parents):
        if link.is_symlink() and not link.exists():
            raise RequestError(
                f"{key} is {shown}; {link} is a link to {link.readlink()}, which does not exist: make that, or remove "
                "the link"
            )


def _check_sqlite(key: str, url: str, path: Path, table: str) -> set[str]:
    """The tables of the file, none where there is no file."""
    try:
        if not path.exists():
            check_folder(key, url, path.parent)
            return set()
        # Asked, and not tried: closing a file drops the locks that this process's connections have on it.
        if not path.is_file() or not os.access(path, os.R_OK) or not _is_writable(path):
            raise RequestError(f"{key} is {url}; {path} cannot be written; name another file")
        tables = _tables(path)
        if tables and table not in tables:
            raise RequestError(f"{key} is {url}; {path} is the database of something else; name another file")
        return tables
    except OSError as error:
        raise RequestError(f"{key} is {url}; {path} cannot be written ({error.strerror}); name another file") from None
    except sqlite3.DatabaseError:
        raise RequestError(f"{key} is {url}; {path} is not a SQLite database; name another file") from None


def _is_writable(path: Path) -> bool:
    """Whether a SQLite file can be written, which needs files beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


_copies: dict[Path, Path] = {}  # of files that may only be read: the original of each copy


def original_file(path: Path) -> Path:
    """The file of which a SQLite file is a copy to read; the file itself if it is none."""
    return _copies.get(path, path)


def _copy_to_read(path: Path) -> Path:
    """A copy of a SQLite file that may only be read, in a temporary folder that ends with this process."""
    logs = [path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm")]
    state = [(file.stat().st_size, file.stat().st_mtime_ns) for file in (path, logs[0]) if file.exists()]
    return _copied(path, str(state), all(log.exists() for log in logs))


@functools.cache
def _copied(path: Path, state: str, in_use: bool) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="makemore-")
    atexit.register(folder.cleanup)
    copy = Path(folder.name) / path.name
    if in_use:  # a process that may write it has it open: its log is read with it, in one piece
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    else:
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                shutil.copyfile(file, copy.with_name(file.name))
    _copies[copy] = path
    return copy
