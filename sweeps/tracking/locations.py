"""Where the files of runs are, after the folder with the records was moved or copied.

MLflow stores absolute locations, and nothing public of it changes them. So a copy of a project would write into the
original's files, and a moved project would lose its own. This module changes the locations in the tables of MLflow's
database, in one transaction.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sweeps.databases import connect_sqlite, locked

LOCATIONS = (  # the columns of MLflow's tables that hold the location of a file or folder
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


def mend_locations(uri: str, database: Path, experiment_id: str) -> None:
    """Make the locations in a database point to the files beside it, if it was moved or copied together with them.

    Args:
        uri: of the database.
        experiment_id: the experiment whose location tells whether the database was moved.
    """
    if _old_home(database, experiment_id) is None:
        return
    with locked(uri, "schema"):
        old = _old_home(database, experiment_id)  # another process may have mended it meanwhile
        if old is not None:
            with connect_sqlite(database) as connection:
                _replace(connection, f"{old.as_uri()}/", f"{database.parent.as_uri()}/")
                _replace(connection, f"{old}/", f"{database.parent}/")  # MLflow's own experiment has a plain path


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in LOCATIONS:
        begins = f"substr({column}, 1, ?) = ?"
        connection.execute(
            f"update {table} set {column} = ? || substr({column}, ?) where {begins} and not {begins}",
            (new, len(old) + 1, len(old), old, len(new), new),
        )


def _old_home(database: Path, experiment_id: str) -> Path | None:
    """The folder in which the database was, if an experiment's recorded location says that it was moved or copied."""
    with connect_sqlite(database) as connection:
        select = "select artifact_location from experiments where experiment_id = ?"
        (location,) = connection.execute(select, (experiment_id,)).fetchone()
        select = "select run_uuid from runs where experiment_id = ?"
        run_ids = [run_id for (run_id,) in connection.execute(select, (experiment_id,))]
    recorded, home = _local_path(location), database.parent
    if recorded is None or recorded.is_relative_to(home):
        return None
    homes = [folder for folder in (recorded, *recorded.parents) if not _same(folder, home)]
    for old in homes:
        if _has_files(home / recorded.relative_to(old), run_ids):
            return old
    # No run has files here. Then the location is another project's, or nobody's, if it is in a folder of the same name
    # that has a database of its own or never had files.
    for old in homes:
        if old.name == home.name and ((old / database.name).exists() or not recorded.exists()):
            return old
    return None


def _has_files(folder: Path, run_ids: Sequence[str]) -> bool:
    return folder.is_dir() and any((folder / run_id).is_dir() for run_id in run_ids)


def _same(folder: Path, other: Path) -> bool:
    return folder.exists() and folder.samefile(other)


def _local_path(location: str) -> Path | None:
    """The path of a location in this machine's files; None for a location elsewhere."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme else Path(location)
