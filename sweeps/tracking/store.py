"""The records of runs in MLflow; but for the model that MLflow itself loads, the only module that imports it."""

import functools
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig
from sqlalchemy.exc import SQLAlchemyError

from sweeps.config.reading import check_study_name, read_node
from sweeps.databases import adopt_engine, hide_password, locked, prepare_sqlite, resolve_url
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes as long to import as a small query

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import: a sweep talks to nobody but its stores
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
logging.getLogger("alembic").setLevel(logging.WARNING)

import mlflow.artifacts  # noqa: E402
from alembic.util import CommandError  # noqa: E402
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

_FLUSH_SECONDS = 5.0  # a run longer than this shows its curve while it trains
_SEARCH_PAGE = 1000
_CHAMPION = "champion"
_IDENTIFYING = ("config_hash", "group_hash", "weights_digest", "reason", "diagnosis")  # tags
_DIGEST_LENGTH = 32  # MLflow takes at most 36 characters
_CONTEXT = "mlflow.data.context"  # the tag that says which part of its words a dataset is
_COMPARABLE = ("train", "trial", "confirm")  # the kinds of run that have a dev loss
_STATES = {"FINISHED": "COMPLETE", "FAILED": "FAIL", "KILLED": "FAIL"}  # of a run of no study, in Optuna's words


@dataclass
class TrackedRun:
    """One MLflow run, by id: the fluent global run leaks when a trial raises."""

    client: MlflowClient
    run_id: str
    artifact_uri: str | None = None  # of a run that was started here: asking for it takes as long as a call that writes
    _waiting: list[Metric] = field(default_factory=list)
    _waiting_tags: dict[str, str] = field(default_factory=dict)
    _flushed: float = field(default_factory=time.monotonic)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Keep metrics, and send what is kept every few seconds: a call costs as much as a hundred metrics."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, step) for key, value in metrics.items()]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Keep tags, and send them with the next metrics."""
        self._waiting_tags |= tags

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Store a table where the UI shows it as one (JSON), in place of the last of the name, and as CSV."""
        self.client.log_text(self.run_id, str(table.to_json(orient="split", index=False)), f"{name}.json")
        self.client.log_text(self.run_id, str(table.to_csv(index=False)), f"{name}.csv")
        self.log_tags({"mlflow.loggedArtifacts": json.dumps([{"path": f"{name}.json", "type": "table"}])})

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """A folder; what is in it at the end is stored with the run, or nothing, where it ends by an exception.

        Where the run's own folder is on this machine, the files are moved there: copies would cost each trial 4 ms.
        """
        uri = self.artifact_uri or str(self.client.get_run(self.run_id).info.artifact_uri)
        repository = get_artifact_repository(uri, self.client.tracking_uri)
        own = Path(repository.artifact_dir) if isinstance(repository, LocalArtifactRepository) else None
        if own is not None:
            own.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".makemore-", dir=own and own.parent) as name:
            yield Path(name)
            if own is None:
                repository.log_artifacts(name)  # type: ignore[no-untyped-call]
            else:
                _move_files(Path(name), own)

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Send what is left and close the run as FINISHED, FAILED or KILLED."""
        self.log_tags(tags or {})
        self.flush()
        self.client.set_terminated(self.run_id, status)

    def flush(self) -> None:
        """Send what is kept; what cannot be sent stays."""
        tags = [RunTag(key, value) for key, value in self._waiting_tags.items()]
        while self._waiting or tags:
            self.client.log_batch(self.run_id, metrics=self._waiting[:_SEARCH_PAGE], tags=tags)
            del self._waiting[:_SEARCH_PAGE]  # a call takes at most a thousand metrics
            tags = []
        self._waiting_tags = {}
        self._flushed = time.monotonic()


def _move_files(source: Path, target: Path) -> None:
    """Move all that is in a folder to another on the same disk, in place of what is there."""
    for path in sorted(source.rglob("*")):  # a folder before its files
        moved = target / path.relative_to(source)
        if path.is_dir():
            moved.mkdir(exist_ok=True)
        else:
            path.replace(moved)


@dataclass(frozen=True)
class TrackingStore:
    """An MLflow tracking store and the experiment that our runs are in."""

    client: MlflowClient
    uri: str
    experiment_id: str

    def start_run(
        self,
        name: str,
        kind: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        source: Source | None = None,
        parent_id: str | None = None,
        parts: tuple[str, ...] = ("train", "dev"),
    ) -> TrackedRun:
        """A new run, RUNNING, of kind "train", "trial", "study" and so on, with the digests of its data's parts."""
        all_tags = {"kind": kind, **version_tags(), **tags}
        if parent_id:
            all_tags["mlflow.parentRunId"] = parent_id
        info = self.client.create_run(self.experiment_id, tags=all_tags, run_name=name).info
        self.client.log_batch(info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
        if source is not None:
            self.client.log_inputs(info.run_id, [_dataset_input(source, part) for part in parts])
        return TrackedRun(self.client, info.run_id, info.artifact_uri)

    def open_study_run(self, study: str, tags: Mapping[str, str], source: Source) -> TrackedRun:
        """The parent run of a study: the one it has, RUNNING again, or a new one."""
        run_id = self.find_study_run(study)
        if run_id is None:
            return self.start_run(study, "study", {}, {"study": study, **tags}, source)
        self.client.update_run(run_id, "RUNNING")
        return TrackedRun(self.client, run_id)

    def open_ladder_run(self, ladder: str, source: Source) -> TrackedRun:
        """The parent run of a ladder's rungs: the one it has, RUNNING again, or a new one."""
        found = self._search(f"tags.kind = 'ladder' and tags.ladder = {_quote(ladder)}", limit=1)
        if not found:
            return self.start_run(ladder, "ladder", {}, {"ladder": ladder}, source)
        self.client.update_run(found[0].info.run_id, "RUNNING")
        return self.run(found[0].info.run_id)

    def rungs(self, ladder: str) -> pd.DataFrame:
        """The runs under a ladder's, newest first; columns as those of `study_runs`."""
        return _frame(self._search(f"tags.kind = 'train' and tags.ladder = {_quote(ladder)}"))

    def run(self, run_id: str) -> TrackedRun:
        """A run that exists."""
        return TrackedRun(self.client, run_id)

    def running(self, study: str, kind: str) -> list[tuple[str, int]]:
        """Runs of kind "trial" or "confirm" that are recorded as running: their ids, and their numbers in Optuna."""
        tag = "trial_number" if kind == "trial" else "confirm_number"
        found = self._search(f"tags.kind = '{kind}' and tags.study = {_quote(study)} and attributes.status = 'RUNNING'")
        return [(run.info.run_id, int(run.data.tags[tag])) for run in found]

    def find_study_run(self, study: str) -> str | None:
        """Id of a study's parent run."""
        found = self._search(f"tags.kind = 'study' and tags.study = {_quote(study)}", limit=1)
        return found[0].info.run_id if found else None

    def newest_study(self) -> str | None:
        """Name of the study that was started last."""
        found = self._search("tags.kind = 'study'", limit=1)
        return found[0].data.tags["study"] if found else None

    def study_tags(self, study: str) -> dict[str, str]:
        """Tags of a study's parent run."""
        run_id = self.find_study_run(study)
        return self.run_tags(run_id) if run_id else {}

    def study_runs(self, study: str, kind: str = "trial") -> pd.DataFrame:
        """The trials of a study, one a row; columns as `_frame` makes them.

        Args:
            kind: "trial", or "confirm" for the runs that confirm trials; `trial` is then the number of the confirmed.

        Raises:
            RequestError: not a study's name.
        """
        return _frame(self._search(f"tags.kind = '{kind}' and tags.study = {_quote(study)}"))

    def find_runs(self, ids: Sequence[str], given: str) -> pd.DataFrame:
        """Runs of kind "train", "trial" or "confirm", in the order of the ids; columns as those of `study_runs`.

        Args:
            ids: of runs, or as much of their beginning as no other run has.
            given: how the user gave the ids, for messages: "runs has".

        Raises:
            RequestError: no such run, several of them, or one of another kind.
        """
        found = []
        for one in ids:
            pattern = re.fullmatch("[0-9a-f]{1,32}", one)
            runs = self._search(f"attributes.run_id LIKE '{one}%'") if pattern else []
            if not runs:
                raise RequestError(f"{given} {one}; {hide_password(self.uri)} has no such run: see makemore ui")
            comparable = [run for run in runs if run.data.tags.get("kind") in _COMPARABLE]
            if not comparable:
                kind = runs[0].data.tags.get("kind")
                raise RequestError(f"{given} {one}; that is a run of kind {kind}, not {', '.join(_COMPARABLE)}")
            if len(comparable) > 1:
                some = ", ".join(run.info.run_id for run in comparable[:2])
                raise RequestError(
                    f"{given} {one}; {len(comparable)} runs begin with it ({some}, ...): give more of the id"
                )
            found += comparable
        return _frame(found)

    def histories(self, run_ids: Sequence[str], metric: str) -> pd.DataFrame:
        """The curve of a metric for each of some runs: run_id, step, value; a query each."""
        rows = [
            {"run_id": run_id, "step": point.step, "value": _as_logged(point.value)}
            for run_id in run_ids
            for point in sorted(self.client.get_metric_history(run_id, metric), key=lambda point: point.step)
        ]
        return pd.DataFrame(rows, columns=["run_id", "step", "value"]).astype({"step": int, "value": float})

    def log_look(
        self, claim: Mapping[str, Any], result: Mapping[str, Any], texts: Mapping[str, str], figure: "Figure"
    ) -> None:
        """The run of kind "final_test" of a study that has been looked at, under the study's; once."""
        found = self._search(f"tags.kind = 'final_test' and tags.study = {_quote(claim['study'])}", limit=1)
        if found and found[0].info.status == "FINISHED":
            return
        if found:  # begun by a process that died
            run = self.run(found[0].info.run_id)
        else:
            keys = ("study", "trial", "run_id", "config_hash", "split", "split_seed", "split_digest", "source_digest")
            tags = {"study": claim["study"], "look": str(claim["look"]), "weights_digest": claim["weights_digest"]}
            name = f"final test, look {claim['look']}"
            params = {key: claim[key] for key in keys}
            run = self.start_run(name, "final_test", params, tags, parent_id=self.find_study_run(claim["study"]))
        figures = {key: value for key, value in result.items() if isinstance(value, (int, float)) and key != "attempts"}
        for one in result["baselines"]:
            figures[f"test_loss_{one['name'].replace(' ', '_')}"] = one["test_loss"]
        run.log_metrics(figures)
        for name, text in texts.items():
            self.client.log_text(run.run_id, text, name)
        self.client.log_figure(run.run_id, figure, "report.png", save_kwargs={"dpi": 80})
        run.end("FINISHED", {"claim_hash": result["claim"]})

    def looks(self) -> list[dict[str, str]]:
        """What the final tests' runs are of: study, source_digest, claim_hash."""
        found = self._search("tags.kind = 'final_test' and attributes.status = 'FINISHED'")
        return [{**run.data.params, **run.data.tags} for run in found]

    def read_look(self, study: str) -> dict[str, str] | None:
        """What the final test's run of a study says: test_loss, look, weights_digest."""
        found = self._search(f"tags.kind = 'final_test' and tags.study = {_quote(study)}", limit=1)
        if not found or found[0].info.status != "FINISHED":
            return None
        return {**found[0].data.tags, "test_loss": repr(found[0].data.metrics.get("test_loss"))}

    def register_winner(self, winner: Mapping[str, Any]) -> Any:
        """Register a trial's model as a version of the experiment's; once.

        Args:
            winner: its study, trial, run_id and weights_digest, which become tags, among others.
        """
        with nullcontext() if self.uri.startswith("http") else locked(self.uri, "registry"):
            version = self._version_of(winner)
            if version is not None:
                return version
            model, run_id = self._model_name(), str(winner["run_id"])
            if not self.client.search_registered_models(f"name = '{model}'"):
                self.client.create_registered_model(model)
            with self.run(run_id).artifacts() as folder:
                _save_model(folder / "model", self.fetch_artifact(run_id, "weights.safetensors"))
            source = f"{self.client.get_run(run_id).info.artifact_uri}/model"
            tags = {key: str(winner[key]) for key in ("study", "trial", "weights_digest")}
            return self.client.create_model_version(model, source, run_id, tags=tags)

    def register_champion(self, claim: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Give a study's winner, which is registered if it is not yet, its test loss and the alias champion."""
        version = self.register_winner(claim)
        tags = {"look": claim["look"], "split_digest": claim["split_digest"], "test_loss": repr(result["test_loss"])}
        for key, value in tags.items():
            self.client.set_model_version_tag(version.name, version.version, key, str(value))
        aliases = self.client.get_registered_model(version.name).aliases
        if int(aliases.get(_CHAMPION, 0)) < int(version.version):  # a later look may have made another
            self.client.set_registered_model_alias(version.name, _CHAMPION, version.version)

    def champion_of(self, claim: Mapping[str, Any]) -> dict[str, str] | None:
        """Tags of the registered version that is a study's winner: test_loss, look, weights_digest."""
        version = self._version_of(claim)
        return dict(version.tags) if version else None

    def _version_of(self, winner: Mapping[str, Any]) -> Any:
        found = self.client.search_model_versions(f"name = '{self._model_name()}'")
        wanted = {key: winner[key] for key in ("study", "weights_digest")}
        return next((one for one in found if wanted.items() <= one.tags.items()), None)

    def _model_name(self) -> str:
        """Of the registered model: the experiment's, with what MLflow does not take in a model's replaced."""
        return re.sub("[/:'%]", "-", str(self.client.get_experiment(self.experiment_id).name))

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Tags of a run.

        Raises:
            RequestError: no such run.
        """
        try:
            return dict(self.client.get_run(run_id).data.tags)
        except (MlflowException, TypeError):
            raise RequestError(f"run is {run_id}; {hide_password(self.uri)} has no such run: see makemore ui") from None

    def fetch_artifact(self, run_id: str, name: str) -> Path:
        """A run's file, as a local path.

        Raises:
            RequestError: the run has no such file.
        """
        try:
            return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=self.uri))
        except (MlflowException, OSError):
            raise RequestError(f"run {run_id} has no {name}; only a finished run has one") from None

    def _search(self, filter_string: str, limit: int | None = None) -> list[Any]:
        """Runs, newest first."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, ViewType.ACTIVE_ONLY, limit or _SEARCH_PAGE, page_token=token
            )
            runs += page
            token = page.token
            if not token or (limit and len(runs) >= limit):
                return runs


def _frame(runs: Sequence[Any]) -> pd.DataFrame:
    """Runs, one a row: study, kind, trial, state, their metrics and params, and what identifies them.

    A run of no study has neither `study` nor `trial`. `dev_words` is the digest of its dev split.
    """
    rows: list[dict[str, Any]] = []
    for run in runs:
        tags = run.data.tags
        state = "RUNNING" if "study" in tags else _STATES.get(run.info.status, "RUNNING")
        rows.append(
            {
                "study": tags.get("study"),
                "kind": tags.get("kind"),
                "trial": int(tags["trial_number"]) if "trial_number" in tags else None,
                "state": tags.get("trial_state", state),
                **{key: _as_logged(value) for key, value in run.data.metrics.items()},
                **run.data.params,
                "run_id": run.info.run_id,
                **{key: tags.get(key) for key in _IDENTIFYING},
                "dev_words": _dev_digest(run),
            }
        )
    found = pd.DataFrame(rows)
    needed = ["study", "kind", "trial", "state", "best_dev_loss", "run_id", "reason"]
    return found.reindex(columns=list(dict.fromkeys([*found.columns, *needed])))


def _as_logged(value: float) -> float:
    """MLflow keeps an infinite metric as the largest number that there is."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _dev_digest(run: Any) -> str | None:
    for item in run.inputs.dataset_inputs:
        if any(tag.key == _CONTEXT and tag.value == "dev" for tag in item.tags):
            return str(item.dataset.digest)
    return None


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are recorded."""

    uri: str
    experiment: str
    artifacts: str | None


def open_tracking(cfg: DictConfig, create: bool = True) -> TrackingStore:
    """The store of a config's `tracking` node; database, schema and experiment are created at first use.

    Args:
        create: False for commands that only read: without records there is nothing to read.

    Raises:
        RequestError: the store cannot be reached, or has no records and is not to be created.
    """
    config = read_node(TrackingConfig, cfg, "tracking")
    uri = resolve_url("tracking.uri", config.uri, table="experiments", must_exist=not create)
    root = _artifact_root(uri, config.artifacts)
    return _open(uri, config.experiment, root, create)


def _artifact_root(uri: str, artifacts: str | None) -> str | None:
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
def _open(uri: str, experiment: str, artifact_root: str | None, create: bool) -> TrackingStore:
    shown = hide_password(uri)
    try:
        # Two processes that make one database at once break it.
        with locked(uri, "schema") if create else nullcontext():
            if create:
                prepare_sqlite(uri)
            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(experiment)
            if found is None and create:
                found = _create_experiment(client, experiment, artifact_root)
            if create and not uri.startswith("http"):
                _adopt_engines(uri)
    except (MlflowException, SQLAlchemyError, CommandError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(f"tracking.uri is {shown}; it cannot be used as an MLflow store ({reason})") from None
    if found is None:
        raise RequestError(f"tracking.experiment is {experiment}; {shown} has no such experiment yet")
    if found.lifecycle_stage == "deleted":
        raise RequestError(f"tracking.experiment is {experiment}; it was deleted: restore it, or give another name")
    return TrackingStore(client, uri, found.experiment_id)


def _adopt_engines(uri: str) -> None:
    """Set up the engines of MLflow's two stores in a database: MLflow has one of each for all clients of a process."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    adopt_engine(SqlAlchemyStore(uri, "mlruns").engine)  # type: ignore[no-untyped-call]
    adopt_engine(RegistryStore(uri).engine)  # type: ignore[no-untyped-call]


def _create_experiment(client: MlflowClient, name: str, artifact_root: str | None) -> Any:
    # The tag chooses the UI's view for model training, not that for agents.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        client.create_experiment(name, artifact_location=artifact_root, tags=tags)
    except MlflowException:  # on a server, which has no lock, another process may just have made it
        if client.get_experiment_by_name(name) is None:
            raise
    return client.get_experiment_by_name(name)


@functools.cache
def version_tags() -> dict[str, str]:
    """Versions of what a result may depend on, and the git commit of a checkout."""
    packages = ("makemore-sweeps", "torch", "hydra-core", "optuna", "mlflow")
    tags = {f"version.{package}": importlib.metadata.version(package) for package in packages}
    tags["version.python"] = platform.python_version()
    with suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__)
        _git(here.parent, "ls-files", "--error-unmatch", here.name)  # an installed copy may lie in another repository
        tags["mlflow.source.git.commit"] = _git(here.parent, "rev-parse", "HEAD")
    return tags


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def words_digest(source: Source, part: str) -> str:
    """What MLflow records of the fingerprint of a source's part "train" or "dev"."""
    return source.split.fingerprint(part)[:_DIGEST_LENGTH]


def _save_model(folder: Path, weights: Path) -> None:
    """Weights as an MLflow model, with the code that loads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the import itself, and for want of an example
        import mlflow.pyfunc
        from mlflow.models.signature import ModelSignature
        from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

        inputs = Schema([ColSpec("string", "context")])
        asked = [ParamSpec("n", "long", 0), ParamSpec("temperature", "double", 1.0), ParamSpec("seed", "long", 0)]
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"weights": str(weights)},
            signature=ModelSignature(inputs=inputs, params=ParamSchema(asked)),
            pip_requirements=[f"makemore-sweeps=={importlib.metadata.version('makemore-sweeps')}"],
        )


def _dataset_input(source: Source, part: str) -> DatasetInput:
    digest = source.split.fingerprint(part)
    words = {"train": source.split.train, "dev": source.split.dev}[part]
    profile = f'{{"words": {len(words)}, "sha256": "{digest}"}}'
    name = f"{source.name}-{source.split.rule}-{part}"
    dataset = Dataset(name, words_digest(source, part), "local", f'{{"uri": "{source.path.name}"}}', profile=profile)
    return DatasetInput(dataset, [InputTag(_CONTEXT, part)])


def _quote(value: str) -> str:
    """A study's name as a string of MLflow's filter language, which has no escapes."""
    check_study_name(value)
    return f"'{value}'"
