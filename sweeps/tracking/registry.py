"""Winners' models in MLflow's model registry."""

import importlib.metadata
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from sweeps.databases import locked
from sweeps.tracking.artifacts import fetch_artifact, find_artifact
from sweeps.tracking.runs import TrackedRun
from sweeps.tracking.store import TrackingStore

_CHAMPION = "champion"


@dataclass(frozen=True)
class WinningRun:
    """The run that won a study, and the digest of its weights."""

    study: str
    trial: int
    run_id: str
    weights_digest: str


def register_winner(store: TrackingStore, winner: WinningRun) -> ModelVersion:
    """The registered version of a winner's model; it is registered if it is not yet."""
    with locked(store.uri, "registry"):
        version = _find_version(store, winner.study, winner.weights_digest)
        if version is not None:
            return version
        model = _model_name(store)
        if not store.client.search_registered_models(f"name = '{model}'"):
            store.client.create_registered_model(model)
        run = store.client.get_run(winner.run_id)
        weights = fetch_artifact(store, winner.run_id, "weights.safetensors")
        with TrackedRun(store.client, winner.run_id).artifacts() as folder:
            if run.data.params.get("task", "language_model") == "language_model":
                _save_model(folder / "model", weights)
            else:  # what it predicts is the task's own business
                (folder / "model").mkdir()
                shutil.copy(weights, folder / "model")
        source = f"{run.info.artifact_uri}/model"
        tags = {"study": winner.study, "trial": str(winner.trial), "weights_digest": winner.weights_digest}
        return store.client.create_model_version(model, source, winner.run_id, tags=tags)


def register_champion(store: TrackingStore, claim: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Give a study's winner, which is registered if it is not yet, its test loss and the alias champion.

    Args:
        claim: of the look: study, trial, run_id, weights_digest, look and split_digest, among others.
        result: of the look: test_loss, among others.
    """
    winner = WinningRun(claim["study"], claim["trial"], claim["run_id"], claim["weights_digest"])
    version = register_winner(store, winner)
    tags = {"look": claim["look"], "split_digest": claim["split_digest"], "test_loss": repr(result["test_loss"])}
    for key, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, key, str(value))
    aliases = store.client.get_registered_model(version.name).aliases
    if int(aliases.get(_CHAMPION, 0)) < int(version.version):  # a later look may have made another the champion
        store.client.set_registered_model_alias(version.name, _CHAMPION, version.version)


def read_champion(store: TrackingStore, study: str, weights_digest: str) -> dict[str, str] | None:
    """Tags of the registered version of a study's winner: test_loss, look and weights_digest, among others."""
    version = _find_version(store, study, weights_digest)
    return dict(version.tags) if version else None


def find_registered_weights(store: TrackingStore, study: str, weights_digest: str) -> Path | None:
    """The weights file of the registered version of a study's winner, as a local path; None if there is none."""
    version = _find_version(store, study, weights_digest)
    if version is None or version.run_id is None:
        return None
    folder = find_artifact(store, version.run_id, "model")
    return next(iter(sorted(folder.rglob("*.safetensors"))), None) if folder else None


def _find_version(store: TrackingStore, study: str, weights_digest: str) -> ModelVersion | None:
    versions = store.client.search_model_versions(f"name = '{_model_name(store)}'")
    wanted = {"study": study, "weights_digest": weights_digest}
    return next((version for version in versions if wanted.items() <= version.tags.items()), None)


def _model_name(store: TrackingStore) -> str:
    """The experiment's name, without the characters that a registered model's name cannot have."""
    return re.sub("[/:'%]", "-", str(store.client.get_experiment(store.experiment_id).name))


def _save_model(folder: Path, weights: Path) -> None:
    """Write weights as an MLflow model, with the code that loads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the import itself, and about the missing example
        import mlflow.pyfunc
        from mlflow.models.signature import ModelSignature
        from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

        inputs = Schema([ColSpec("string", "context")])
        options = [ParamSpec("n", "long", 0), ParamSpec("temperature", "double", 1.0), ParamSpec("seed", "long", 0)]
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"weights": str(weights)},
            signature=ModelSignature(inputs=inputs, params=ParamSchema(options)),
            pip_requirements=[f"makemore-sweeps=={importlib.metadata.version('makemore-sweeps')}"],
        )
