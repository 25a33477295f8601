"""Winners' models in MLflow's model registry."""

import dataclasses
import importlib.metadata
import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.entities.model_registry import ModelVersion

from sweeps.config.names import check_study_name
from sweeps.databases import locked
from sweeps.tracking.artifacts import fetch_artifact, find_files
from sweeps.tracking.datasets import recorded_dataset
from sweeps.tracking.queries import find_study_run
from sweeps.tracking.store import TrackingStore

_CHAMPION = "champion"
_MOST_OF_NAME = 200  # characters


@dataclass(frozen=True)
class WinningRun:
    """The run that won a study, the digest of its weights, and the list that it was trained on."""

    study: str
    trial: int
    run_id: str
    weights_digest: str
    list: str  # its name
    source_digest: str  # of its items: two lists may have one name


def register_winner(store: TrackingStore, winner: WinningRun) -> ModelVersion:
    """The registered version of a winner's model; it is registered if it is not yet."""
    with locked(store.uri, "registry"):
        version = _find_version(store, winner.study, winner.weights_digest)
        if version is not None:
            return version
        run = store.client.get_run(winner.run_id)
        model = _find_model(store, winner) or _create_model(store, winner, run)
        if model.status != LoggedModelStatus.READY:  # it may be one whose process was killed
            _fill_model(store, winner, run, model)
        split = {key: run.data.params.get(f"data.{key}", "") for key in ("split", "split_seed")}
        losses = _losses(store, winner, run)
        shown = ", ".join(f"{key.replace('_', ' ')} {loss:.4f}" for key, loss in losses.items())
        description = (
            f"Winner of study {winner.study}: trial {winner.trial}, {shown}, on {winner.list} "
            f"(split {split['split']}, seed {split['split_seed']})."
        )
        version = store.client.create_model_version(
            _registered_name(store, winner),
            model.artifact_location,
            winner.run_id,
            tags={**_tags(winner), **split, **{key: repr(loss) for key, loss in losses.items()}},
            description=description,
            model_id=model.model_id,
        )
        registered = json.dumps([{"name": version.name, "version": version.version}])  # the UI's link
        tags = {"mlflow.modelVersions": registered, "mlflow.note.content": description}
        store.client.set_logged_model_tags(model.model_id, tags)
        return version


def _tags(winner: WinningRun) -> dict[str, str]:
    return {key: str(value) for key, value in dataclasses.asdict(winner).items() if key != "run_id"}


def _losses(store: TrackingStore, winner: WinningRun, run: Run) -> dict[str, float]:
    """The winner's dev loss, and that with fresh seeds where it was confirmed."""
    study = find_study_run(store, winner.study)
    confirmed = study.metrics.get("confirmed_dev_loss", math.nan) if study else math.nan
    losses = {"dev_loss": run.data.metrics["best_dev_loss"], "confirmed_dev_loss": confirmed}
    return {key: loss for key, loss in losses.items() if math.isfinite(loss)}


def _find_model(store: TrackingStore, winner: WinningRun) -> LoggedModel | None:
    """The model of the winner's run, which the UI lists among the experiment's models."""
    models = store.client.search_logged_models([store.experiment_id], f"source_run_id = '{winner.run_id}'")
    return models[0] if models else None


def _create_model(store: TrackingStore, winner: WinningRun, run: Run) -> LoggedModel:
    params = run.data.params
    return store.client.create_logged_model(
        store.experiment_id,
        re.sub(r"[^\w-]", "-", f"{winner.study}-trial-{winner.trial}"),
        winner.run_id,
        _tags(winner),
        params,
        params.get("model", params.get("task")),
    )


def _fill_model(store: TrackingStore, winner: WinningRun, run: Run, model: LoggedModel) -> None:
    """Save the files of a model, its dev loss, and that the run made it."""
    weights = fetch_artifact(store, winner.run_id, "weights.safetensors")
    with tempfile.TemporaryDirectory(prefix="makemore-") as folder:
        if run.data.params.get("task", "language_model") == "language_model":
            _save_model(Path(folder) / "model", weights, winner.run_id, model.model_id)
        else:  # what it predicts is the task's own business
            (Path(folder) / "model").mkdir()
            shutil.copy(weights, Path(folder) / "model")
        store.client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    loss = store.client.get_metric_history(winner.run_id, "best_dev_loss")[-1]
    dev = recorded_dataset(run, "dev")
    metric = Metric(
        loss.key,
        loss.value,
        loss.timestamp,
        loss.step,
        model_id=model.model_id,
        dataset_name=dev.name if dev else None,
        dataset_digest=dev.digest if dev else None,
        run_id=winner.run_id,
    )
    store.client.log_batch(winner.run_id, metrics=[metric])
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in [output.model_id for output in outputs]:
        store.client.log_outputs(winner.run_id, [LoggedModelOutput(model.model_id, loss.step)])
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def register_champion(store: TrackingStore, claim: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Give a study's winner, which is registered if it is not yet, its test loss and the alias champion.

    Args:
        claim: of the look: study, trial, run_id, weights_digest, source, look and split_digest, among others.
        result: of the look: test_loss, among others; a model whose test loss is None does not become the champion.
    """
    keys = ("study", "trial", "run_id", "weights_digest", "source", "source_digest")
    winner = WinningRun(*(claim[key] for key in keys))
    version = register_winner(store, winner)
    tags = {"look": claim["look"], "split_digest": claim["split_digest"], "test_loss": repr(result["test_loss"])}
    for key, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, key, str(value))
    aliases = store.client.get_registered_model(version.name).aliases
    later = int(aliases.get(_CHAMPION, 0)) < int(version.version)  # a later look may have made another the champion
    if later and result["test_loss"] is not None:
        store.client.set_registered_model_alias(version.name, _CHAMPION, version.version)


def read_champion(store: TrackingStore, study: str, weights_digest: str) -> dict[str, str] | None:
    """Tags of the registered version of a study's winner: test_loss, look and weights_digest, among others."""
    version = _find_version(store, study, weights_digest)
    return dict(version.tags) if version else None


def find_registered_weights(store: TrackingStore, study: str, weights_digest: str) -> Path | None:
    """The weights file of the registered version of a study's winner, as a local path; None if there is none."""
    version = _find_version(store, study, weights_digest)
    folder = find_files(store, str(version.source)) if version else None
    return next(iter(sorted(folder.rglob("*.safetensors"))), None) if folder else None


def _find_version(store: TrackingStore, study: str, weights_digest: str) -> ModelVersion | None:
    """The version of a study's winner, under whatever name: earlier versions named models by the experiment alone."""
    check_study_name(study)
    versions = store.client.search_model_versions(f"tags.weights_digest = '{weights_digest}'")
    return next((version for version in versions if version.tags.get("study") == study), None)


def _registered_name(store: TrackingStore, winner: WinningRun) -> str:
    """The name of the registered model for the winner's list, which is made if there is none.

    Where another list of the same name has it, the name ends with the digest of this one.
    """
    experiment = store.client.get_experiment(store.experiment_id).name
    name = re.sub(r"[^\w.-]", "-", f"{experiment}-{winner.list}")[:_MOST_OF_NAME]
    registered = store.client.search_registered_models(f"name = '{name}'")
    if registered and registered[0].tags.get("source_digest") != winner.source_digest:
        name += f"-{winner.source_digest[:8]}"
        registered = store.client.search_registered_models(f"name = '{name}'")
    if not registered:
        tags = {"list": winner.list, "source_digest": winner.source_digest}
        store.client.create_registered_model(name, tags, f"Winners of studies on {winner.list}.")
    return name


def _save_model(folder: Path, weights: Path, run_id: str, model_id: str) -> None:
    """Write weights as an MLflow model, with the code that loads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the import itself, and about the missing example
        import mlflow.pyfunc
        from mlflow.models import Model
        from mlflow.models.signature import ModelSignature
        from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

        inputs = Schema([ColSpec("string", "context")])
        options = [ParamSpec("n", "long", 0), ParamSpec("temperature", "double", 1.0), ParamSpec("seed", "long", 0)]
        mlflow.pyfunc.save_model(
            path=str(folder),
            mlflow_model=Model(run_id=run_id, model_id=model_id),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"weights": str(weights)},
            signature=ModelSignature(inputs=inputs, params=ParamSchema(options)),
            pip_requirements=[f"makemore-sweeps=={importlib.metadata.version('makemore-sweeps')}"],
        )
