"""Addresses of the databases and servers that hold records."""

import os
import socket
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sweeps.errors import RequestError

_CONNECT_SECONDS = 5.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}


def resolve_url(key: str, url: str) -> str:
    """A URL that means the same from every folder, of a place that can be reached.

    A SQLite path becomes absolute; nothing is written yet. A host is only asked whether it answers: clients that
    find out by themselves retry for minutes.

    Raises:
        RequestError: not a URL, a host that does not answer, a file that is no database or cannot be written.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise RequestError(
            f"{key} is {url}; it must be a URL such as sqlite:///folder/file.db or http://127.0.0.1:5000"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise RequestError(f"{key} is {url}; it must name a file, as sqlite:///folder/file.db does")
        path = Path(parsed.database).expanduser().absolute()
        _check_sqlite(key, url, path)
        return str(parsed.set(database=str(path)).render_as_string(hide_password=False))
    if not parsed.host:
        raise RequestError(f"{key} is {url}; it must name a host, or be sqlite:///folder/file.db")
    port = parsed.port or _PORTS.get(parsed.get_backend_name(), 0)
    try:
        socket.create_connection((parsed.host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"{key} is {url}; {parsed.host}:{port} does not answer ({reason}); start it first") from None
    return url


def make_folder(url: str) -> None:
    """Create the folder of a SQLite URL, if it is one."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)


def _check_sqlite(key: str, url: str, path: Path) -> None:
    try:
        if path.exists():
            with path.open("rb+") as file:
                head = file.read(16)
            if head and not head.startswith(b"SQLite format 3"):
                raise RequestError(f"{key} is {url}; {path} is not a SQLite database; name another file")
            return
    except OSError as error:
        raise RequestError(f"{key} is {url}; {path} cannot be written ({error.strerror}); name another file") from None
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RequestError(f"{key} is {url}; nothing can be written in {folder}; name another folder")
