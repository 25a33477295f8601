"""The MLflow tracking store that a config names: its address, its schema, and the experiment that our runs are in."""

import functools
import importlib.util
import multiprocessing
import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from alembic.util import CommandError
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig
from sqlalchemy.exc import SQLAlchemyError

from makemore.limits import LimitError, check
from sweeps.config.reading import read_node
from sweeps.databases import (
    NoRecords,
    adopt_engine,
    check_folder,
    check_link,
    connect_sqlite,
    has_table,
    hide_password,
    locked,
    original_file,
    prepare_sqlite,
    resolve_url,
    sqlite_file,
)
from sweeps.errors import RequestError, hide_passwords
from sweeps.tracking.locations import local_path, mend_locations
from sweeps.tracking.quiet import one_connection


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded."""

    uri: str
    experiment: str
    artifacts: str | None
    system_metrics: float | None = None  # seconds; older records have no such key

    def __post_init__(self) -> None:
        if self.system_metrics is not None:
            check("system_metrics", self.system_metrics, low=0.1, high=3600)
            if importlib.util.find_spec("psutil") is None:
                cure = "null, because the package psutil is missing: pip install psutil"
                raise LimitError("system_metrics", self.system_metrics, cure)


@dataclass(frozen=True)
class TrackingStore:
    """A connection to an MLflow tracking store, and the experiment that our runs are in."""

    client: MlflowClient
    uri: str
    experiment_id: str
    system_metrics: float | None = None  # seconds between two records of them for a run that trains; None: none


def open_tracking(cfg: DictConfig, create: bool = True, writes: bool = False) -> TrackingStore:
    """The store of a config's `tracking` node; database, schema and experiment are created at first use.

    Args:
        create: False where nothing is to be made: without records there is nothing to read.
        writes: with create=False: whether something is going to be written; if not, records that may only be read do.

    Raises:
        NoRecords: the store has no records, and none are to be made.
        RequestError: the store cannot be used.
    """
    config: TrackingConfig = read_node(TrackingConfig, cfg, "tracking")
    uri = resolve_url("tracking.uri", config.uri, table="experiments", must_exist=not create, writes=create or writes)
    _say_what_is_not_followed(config, uri)
    store = _open(uri, config.experiment, _artifact_root(uri, config.artifacts), create)
    return replace(store, system_metrics=config.system_metrics)


def find_tracking(cfg: DictConfig) -> TrackingStore | None:
    """The store of a config's `tracking` node, or None if it has no records yet; nothing is made.

    Raises:
        RequestError: the store cannot be used.
    """
    with suppress(NoRecords):
        return open_tracking(cfg, create=False)
    return None


def _artifact_root(uri: str, artifacts: str | None) -> str | None:
    """Where a new experiment keeps its files; None where MLflow or the server decides."""
    if uri.startswith("http") or not artifacts:
        return None
    if "://" in artifacts:
        try:
            get_artifact_repository(artifacts)
        except (MlflowException, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"tracking.artifacts is {artifacts}; it must be a folder or a URL ({reason})") from None
        return artifacts
    folder = Path(artifacts).absolute()
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"tracking.artifacts is {artifacts}; it must be a folder or a URL")
    check_link("tracking.artifacts", artifacts, folder)
    return folder.as_uri()


_VARIABLES = {  # of MLflow, and the keys that decide here
    "MLFLOW_TRACKING_URI": "tracking.uri",
    "MLFLOW_REGISTRY_URI": "tracking.uri",
    "MLFLOW_EXPERIMENT_NAME": "tracking.experiment",
}


def _say_what_is_not_followed(config: TrackingConfig, uri: str) -> None:
    """Print a line for each of MLflow's variables that names another place than the config, which alone decides."""
    if multiprocessing.parent_process() is not None:
        return
    for variable, key in _VARIABLES.items():
        given, value = os.environ.get(variable), config.experiment if key == "tracking.experiment" else config.uri
        if given and given.rstrip("/") not in (value.rstrip("/"), uri):
            _say(
                f"makemore: {variable} is set, but {key} decides, which is {hide_passwords(value)}; to follow the "
                f"variable, give {key}='${{oc.env:{variable}}}'"
            )


@functools.cache
def _say(line: str) -> None:
    """Print a line once."""
    print(line, file=sys.stderr)


@functools.cache
def _open(uri: str, experiment_name: str, artifact_root: str | None, create: bool) -> TrackingStore:
    shown = hide_password(uri)
    server, database = uri.startswith("http"), sqlite_file(uri)
    try:
        # Two processes that create one database at the same time break it.
        with locked(uri, "schema") if create else nullcontext():
            if database is not None and database.exists():
                _check_whole(uri, database)
            if create:
                prepare_sqlite(uri, _make_tables)
            elif not server and not has_table(uri, "experiments"):
                raise NoRecords(f"tracking.uri is {shown}; there are no records yet: start with makemore sweep")
            with nullcontext() if server or database else one_connection():
                client = MlflowClient(tracking_uri=uri, registry_uri=uri)
                if not server:
                    _adopt_engines(uri)
            experiment = client.get_experiment_by_name(experiment_name)
            if experiment is None and create:
                experiment = _create_experiment(client, experiment_name, artifact_root)
        if experiment is not None and database is not None and experiment.artifact_location != artifact_root:
            mend_locations(uri, database, original_file(database).parent, experiment.experiment_id)
    except (MlflowException, SQLAlchemyError, CommandError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"tracking.uri is {shown}; it cannot be used as an MLflow store ({reason})") from None
    if experiment is None:
        raise NoRecords(f"tracking.experiment is {experiment_name}; {shown} has no such experiment yet")
    location = local_path(experiment.artifact_location)
    if create and location is not None:
        check_folder("tracking.experiment", f"{experiment_name}, whose files are in {location}", location)
    if experiment.lifecycle_stage == "deleted":
        raise RequestError(
            f"tracking.experiment is {experiment_name}; it was deleted: restore it, or give another name"
        )
    return TrackingStore(client, uri, experiment.experiment_id)


def _make_tables(uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # late, as in _adopt_engines

    # It makes the tables, and the experiment "Default".
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    SqlAlchemyStore(uri, "mlruns").engine.dispose()  # type: ignore[no-untyped-call]


def _check_whole(uri: str, database: Path) -> None:
    """Refuse what a process left that was killed while it made the tables: MLflow makes an experiment last."""
    if has_table(uri, "experiments"):
        with connect_sqlite(database) as connection:
            if connection.execute("select count(*) from experiments").fetchone() == (0,):
                raise RequestError(
                    f"tracking.uri is {hide_password(uri)}; {database} is only half made and holds no records, because "
                    "the process that made it was stopped: move it away or delete it, and run the command again"
                )


def _adopt_engines(uri: str) -> None:
    """Set up the engines of MLflow's two stores in a database: MLflow keeps one of each for all its clients."""
    # MLflow imports these with its first query; a command that only reads a server does without.
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    adopt_engine(SqlAlchemyStore(uri, "mlruns").engine)  # type: ignore[no-untyped-call]
    adopt_engine(RegistryStore(uri).engine)  # type: ignore[no-untyped-call]


def _create_experiment(client: MlflowClient, name: str, artifact_root: str | None) -> Experiment | None:
    # The tag chooses the UI's view for model training rather than the one for agents.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifact_location=artifact_root, tags=tags)
    except MlflowException:  # a server has no lock: another process may just have created it
        if client.get_experiment_by_name(name) is None:
            raise
    return client.get_experiment_by_name(name)
