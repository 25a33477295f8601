"""Where the files of runs are, after the folder with the records was moved or copied.

MLflow stores absolute locations, and nothing public of it changes them. So a copy of a project would write into the
original's files, and a moved project would lose its own. This module changes the locations in the tables of MLflow's
database, in one transaction.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
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


def mend_locations(uri: str, database: Path, home: Path, experiment_id: str) -> None:
    """Make the locations in a database point to the files in its folder, if it was moved or copied.

    Args:
        uri: of the database.
        home: the folder of the database, or of the file that it is a copy of.
        experiment_id: the experiment whose location tells whether the database was moved.
    """
    if _find_move(database, home, experiment_id) is None:
        return
    with locked(uri, "schema"):
        move = _find_move(database, home, experiment_id)  # another process may have mended it meanwhile
        if move is not None:
            with connect_sqlite(database) as connection:
                _replace(connection, move.columns, f"{move.old_home.as_uri()}/", f"{home.as_uri()}/")
                # MLflow's own experiment has a plain path.
                _replace(connection, move.columns, f"{move.old_home}/", f"{home}/")


@dataclass(frozen=True)
class _Move:
    """The folder in which a database was, and the columns whose locations follow it."""

    old_home: Path
    columns: Sequence[tuple[str, str]]


def _replace(connection: sqlite3.Connection, columns: Sequence[tuple[str, str]], old: str, new: str) -> None:
    for table, column in columns:
        begins = f"substr({column}, 1, ?) = ?"
        connection.execute(
            f"update {table} set {column} = ? || substr({column}, ?) where {begins} and not {begins}",
            (new, len(old) + 1, len(old), old, len(new), new),
        )


def _find_move(database: Path, home: Path, experiment_id: str) -> _Move | None:
    """Where the database was, if an experiment's recorded location says that it was moved or copied."""
    with connect_sqlite(database) as connection:
        select = "select artifact_location from experiments where experiment_id = ?"
        (location,) = connection.execute(select, (experiment_id,)).fetchone()
        select = "select run_uuid from runs where experiment_id = ?"
        run_ids = [run_id for (run_id,) in connection.execute(select, (experiment_id,))]
    recorded = local_path(location)
    if recorded is None or recorded.is_relative_to(home):
        return None
    homes = [folder for folder in (recorded, *recorded.parents) if not _same(folder, home)]
    for old in homes:
        if _has_files(home / recorded.relative_to(old), run_ids):
            return _Move(old, LOCATIONS)
    # No run has files here. If the location is in a folder of the same name that has a database of its own, or never
    # had files, the database was copied alone: new runs keep their files here, and old ones are read where they are.
    for old in homes:
        if old.name == home.name and ((old / database.name).exists() or not recorded.exists()):
            return _Move(old, LOCATIONS[:1])
    return None


def _has_files(folder: Path, run_ids: Sequence[str]) -> bool:
    return folder.is_dir() and any((folder / run_id).is_dir() for run_id in run_ids)


def _same(folder: Path, other: Path) -> bool:
    return folder.exists() and folder.samefile(other)


def local_path(location: str) -> Path | None:
    """The path of a location in this machine's files; None for a location elsewhere."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme else Path(location)
