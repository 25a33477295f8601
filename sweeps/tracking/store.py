"""The MLflow tracking store that a config names: its address, its schema, and the experiment that our runs are in."""

import functools
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from alembic.util import CommandError
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from omegaconf import DictConfig
from sqlalchemy.exc import SQLAlchemyError

from sweeps.config.reading import read_node
from sweeps.databases import adopt_engine, hide_password, locked, prepare_sqlite, resolve_url
from sweeps.errors import RequestError


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded."""

    uri: str
    experiment: str
    artifacts: str | None


@dataclass(frozen=True)
class TrackingStore:
    """A connection to an MLflow tracking store, and the experiment that our runs are in."""

    client: MlflowClient
    uri: str
    experiment_id: str


def open_tracking(cfg: DictConfig, create: bool = True) -> TrackingStore:
    """The store of a config's `tracking` node; database, schema and experiment are created at first use.

    Args:
        create: False for commands that only read: without records there is nothing to read.

    Raises:
        RequestError: the store cannot be reached, or has no records and must not be created.
    """
    config: TrackingConfig = read_node(TrackingConfig, cfg, "tracking")
    uri = resolve_url("tracking.uri", config.uri, table="experiments", must_exist=not create)
    return _open(uri, config.experiment, _artifact_root(uri, config.artifacts), create)


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
    return folder.as_uri()


@functools.cache
def _open(uri: str, experiment_name: str, artifact_root: str | None, create: bool) -> TrackingStore:
    shown = hide_password(uri)
    try:
        # Two processes that create one database at the same time break it.
        with locked(uri, "schema") if create else nullcontext():
            if create:
                prepare_sqlite(uri)
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(experiment_name)
            if experiment is None and create:
                experiment = _create_experiment(client, experiment_name, artifact_root)
            if create and not uri.startswith("http"):
                _adopt_engines(uri)
    except (MlflowException, SQLAlchemyError, CommandError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"tracking.uri is {shown}; it cannot be used as an MLflow store ({reason})") from None
    if experiment is None:
        raise RequestError(f"tracking.experiment is {experiment_name}; {shown} has no such experiment yet")
    if experiment.lifecycle_stage == "deleted":
        raise RequestError(
            f"tracking.experiment is {experiment_name}; it was deleted: restore it, or give another name"
        )
    return TrackingStore(client, uri, experiment.experiment_id)


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
