"""MLflow's notices, switched off. This module imports neither MLflow nor anything that imports it."""

import os

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a sweep talks to its own stores and to nobody else
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def quiet_mlflow() -> None:
    """Switch off MLflow's telemetry, notices and progress bars, in this process and in those that it starts.

    It must be called before MLflow is imported: MLflow reads the first two variables when it is imported, and the
    others when it needs them. A variable that the user has set keeps its value.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
