"""Connections to a PostgreSQL server: a server that refuses them for now, or drops them, is waited for."""

import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from sweeps.errors import hide_passwords

PATIENCE_SECONDS = 300.0  # how long a server that refuses connections, or drops them, is waited for
# The longest pause before the second attempt, and before a late one; pauses are drawn at random, below these.
_FIRST_SECONDS, _MOST_SECONDS = 0.2, 3.0
_SAY_AGAIN_SECONDS = 60.0
# What a server says that is full, starting or stopping: worth waiting for, even where it never answered before.
_BUSY = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    "no more connections allowed",  # pgbouncer
    "is starting up",
    "is shutting down",
    "in recovery mode",
    "not yet accepting connections",
)
_LOST = ("57P01", "57P02", "57P03", "53300")  # stopped by an administrator, crashed, starting, full; and class 08

# Parameters with which a server has answered: it knows the user and the database, so whatever it says later will pass.
_answered: set[frozenset[tuple[str, str]]] = set()

_watched: WeakSet[Engine] = WeakSet()

P = ParamSpec("P")
T = TypeVar("T")


class ConnectionLost(Exception):
    """The connection to a database, or its transaction, was lost: what was done in it is undone."""


def watch_connections(engine: Engine) -> None:
    """Let an engine of a PostgreSQL server wait where the server refuses a connection for now."""
    _watched.add(engine)

    def connect(dialect: Dialect, record: object, cargs: list[Any], cparams: dict[str, Any]) -> Any:
        def attempt() -> Any:
            return dialect.connect(*cargs, **{**_defaults(dialect.driver), **cparams})

        place = frozenset((key, str(value)) for key, value in cparams.items())
        connection = _repeat(attempt, lambda error: place in _answered or _says_busy(error), give_back_connections)
        _answered.add(place)
        return connection

    event.listen(engine, "do_connect", connect)


def _defaults(driver: str) -> dict[str, Any]:
    """Parameters of a connection that its URL does not give."""
    defaults: dict[str, Any] = {
        # Who it is, for whoever reads pg_stat_activity.
        "fallback_application_name": f"makemore {socket.gethostname()}-{os.getpid()}",
        # A host that is gone is noticed within a minute or so, and not after two hours.
        "connect_timeout": 10,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    # A statement prepared on one connection of pgbouncer's is not known on the next.
    return {**defaults, "prepare_threshold": None} if driver == "psycopg" else defaults


def patiently(action: Callable[[], T]) -> T:
    """The result of an action on a database, which is repeated as long as its connection gets lost.

    Args:
        action: does no harm if it is done twice.
    """
    return _repeat(action, is_lost)


def patient(method: Callable[P, T]) -> Callable[P, T]:
    """The function, repeated as long as its connection to a database gets lost: it must do no harm if done twice."""

    @wraps(method)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        return patiently(lambda: method(*args, **kwargs))

    return repeated


def give_back_connections() -> None:
    """Close the connections that are idle; each is made again where it is needed."""
    main = threading.current_thread() is threading.main_thread()
    for engine in list(_watched):
        if isinstance(engine.pool, QueuePool):
            give_back_connection(engine)
        elif isinstance(engine.pool, SingletonThreadPool) and main:  # in another thread it would close those in use
            engine.dispose()


def give_back_connection(engine: Engine) -> None:
    """Close a connection of an engine that is idle, if there is one."""
    # Not by dispose(): a connection that another thread is using would then stay open when it comes back.
    if isinstance(engine.pool, QueuePool) and engine.pool.checkedin():
        with engine.connect() as connection:
            connection.detach()


def _repeat(
    action: Callable[[], T],
    is_passing: Callable[[BaseException], bool],
    before_waiting: Callable[[], None] = lambda: None,
) -> T:
    deadline, most = time.monotonic() + PATIENCE_SECONDS, _FIRST_SECONDS
    while True:
        try:
            return action()
        except Exception as error:
            pause = random.uniform(most / 4, most)
            if not is_passing(error) or time.monotonic() + pause > deadline:
                raise
            _say(error)
        before_waiting()  # processes that hold one connection and wait for another would wait for each other
        time.sleep(pause)
        most = min(2 * most, _MOST_SECONDS)


def is_lost(error: BaseException) -> bool:
    """Whether an error came of a connection that a database server dropped, or refuses for now."""
    return any(_is_lost(link) for link in _chain(error))


def _is_lost(link: BaseException) -> bool:
    if isinstance(link, ConnectionLost) or (isinstance(link, DBAPIError) and link.connection_invalidated):
        return True
    state = getattr(link, "sqlstate", None) or getattr(link, "pgcode", None)
    return (state is not None and (state in _LOST or state[:2] == "08")) or (_is_drivers(link) and _says_busy(link))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came of."""
    link: BaseException | None = error
    while link is not None:
        yield link
        if isinstance(link, DBAPIError) and link.orig is not None:
            yield link.orig
        link = link.__cause__ or link.__context__


def _is_drivers(link: BaseException) -> bool:
    return type(link).__module__.startswith("psycopg")


def _says_busy(error: BaseException) -> bool:
    return any(words in str(error) for words in _BUSY)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_tell: Callable[[str], None] = _print
_said = -_SAY_AGAIN_SECONDS


def _say(error: BaseException) -> None:
    for link in _chain(error):
        if _is_drivers(link):
            why = hide_passwords((str(link).strip().splitlines() or [""])[-1])
            tell_once(
                f"makemore: a database server refuses connections or drops them ({why}); waiting for it, at most "
                f"{PATIENCE_SECONDS / 60:.0f} minutes"
            )
            return


def tell_once(line: str) -> None:
    """Say that a server is waited for, unless this was said within the last minute."""
    global _said  # noqa: PLW0603 - one for the process, as standard error is
    if time.monotonic() - _said > _SAY_AGAIN_SECONDS:
        _said = time.monotonic()
        _tell(line)


@contextmanager
def told_to(tell: Callable[[str], None]) -> Iterator[None]:
    """While inside, what is said of waiting goes there in place of standard error."""
    global _tell  # noqa: PLW0603 - the same
    before, _tell = _tell, tell
    try:
        yield
    finally:
        _tell = before
