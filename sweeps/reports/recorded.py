"""A recorded run with its trained model, by its id in MLflow."""

from sweeps.task.recorded import RecordedRun, read_recorded
from sweeps.tracking.artifacts import fetch_artifact
from sweeps.tracking.store import TrackingStore


def load_recorded(store: TrackingStore, run_id: str) -> RecordedRun:
    """The config and the trained model of a run.

    Raises:
        RequestError: the run has no such files, or the class of its model or task cannot be found.
    """
    config, weights = (fetch_artifact(store, run_id, name) for name in ("config.yaml", "weights.safetensors"))
    return read_recorded(config, weights)
