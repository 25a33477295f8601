"""MLflow's settings: its notices switched off, its waits bounded. This module imports nothing that imports MLflow."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a sweep talks to its own stores and to nobody else
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# MLflow reads these at each call.
_WAITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "20", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5"}
_SHORT_WAITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

# It reads this when it makes an engine.
_ONE_CONNECTION = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "SingletonThreadPool"}


def quiet_mlflow() -> None:
    """Switch off MLflow's telemetry, notices and progress bars, in this process and in those that it starts.

    It must be called before MLflow is imported: MLflow reads the first two variables when it is imported, and the
    others when it needs them. A variable that the user has set keeps its value.
    """
    _set_defaults(_QUIET)
    # It prints a traceback of what it also raises, when a database is away.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def bound_waits() -> None:
    """Let a call to a server that does not answer fail after a minute or three rather than after twenty.

    For the command line, whose environment is its own. A variable that the user has set keeps its value.
    """
    _set_defaults(_WAITS)


def leave_errors_to_us() -> None:
    """Do not let MLflow log a traceback of a database's error that it raises, too.

    For the command line, which says every error in a line.
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextmanager
def short_waits() -> Iterator[None]:
    """While inside, a call to a server that does not answer fails after a few seconds: somebody wants to stop."""
    with _set(_SHORT_WAITS):
        yield


@contextmanager
def one_connection() -> Iterator[None]:
    """While inside, MLflow makes engines that hold one connection for each thread.

    MLflow opens a session within a session, to read before it writes; by default each has a connection of its own.
    """
    with _set(_ONE_CONNECTION):
        yield


@contextmanager
def _set(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _set_defaults(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        os.environ.setdefault(name, value)
