"""Files of runs, read."""

from pathlib import Path

import mlflow.artifacts
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from sweeps.errors import RequestError
from sweeps.tracking.store import TrackingStore


def fetch_artifact(store: TrackingStore, run_id: str, name: str) -> Path:
    """A run's file, as a local path.

    Raises:
        RequestError: the run has no such file.
    """
    path = find_artifact(store, run_id, name)
    if path is None:
        raise RequestError(f"run {run_id} has no {name}; only a finished run has one")
    return path


def find_files(store: TrackingStore, uri: str) -> Path | None:
    """The folder of files at a URI that MLflow has recorded, as a local path; None if there is none."""
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=store.uri))
    except (MlflowException, OSError):
        return None


def find_artifact(store: TrackingStore, run_id: str, name: str) -> Path | None:
    """A run's file, as a local path; None if the run has no such file."""
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=store.uri))
    except (MlflowException, OSError):
        return None


def remove_artifact(store: TrackingStore, run_id: str, name: str) -> None:
    """Delete a run's file; nothing happens where there is none."""
    location = str(store.client.get_run(run_id).info.artifact_uri)
    get_artifact_repository(location, tracking_uri=store.uri).delete_artifacts(name)  # type: ignore[no-untyped-call]
