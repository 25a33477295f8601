"""Runs as they are recorded: started, opened again, filled and closed."""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from sweeps.connections import patiently
from sweeps.errors import hide_passwords
from sweeps.task.items import Items
from sweeps.tracking.datasets import dataset_input
from sweeps.tracking.queries import RunRecord, find_ladder_run, find_study_run
from sweeps.tracking.store import TrackingStore
from sweeps.tracking.versions import version_tags

_DESCRIPTION = "mlflow.note.content"
_DESCRIBED = "description_digest"  # of the description that was written here last
_FLUSH_SECONDS = 5.0  # a run longer than this shows its curve while it trains
_MOST_METRICS = 1000  # that MLflow takes in one call
_MOST_PARAMS = 100  # the same
_MOST_CHARACTERS = 6000  # of a param's value; MLflow would print a warning for each that it cuts
_MOST_OF_NAME = 250  # characters of a run's name


@dataclass
class TrackedRun:
    """A run that is being recorded, by its id: MLflow's global current run leaks when a trial raises."""

    client: MlflowClient
    run_id: str
    uri: str = ""
    watch_every: float | None = None  # seconds between two records of the machine's state while it trains; None: none
    _waiting: list[Metric] = field(default_factory=list)
    _waiting_tags: dict[str, str] = field(default_factory=dict)
    _flushed: float = field(default_factory=time.monotonic)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Keep metrics, and send what is kept every few seconds: a call costs as much as a hundred metrics."""
        now = int(time.time() * 1000)
        self._waiting += [Metric(key, value, now, step) for key, value in metrics.items()]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Send params at once; none may have been sent with another value. Long values are cut."""
        rows = [Param(key, hide_passwords(str(value))[:_MOST_CHARACTERS]) for key, value in params.items()]
        for first in range(0, len(rows), _MOST_PARAMS):
            batch = rows[first : first + _MOST_PARAMS]
            patiently(partial(self.client.log_batch, self.run_id, params=batch))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Keep tags, and send them with the next metrics. The reason why a run is not complete is its description."""
        note = {"mlflow.note.content": f"Not complete: {tags['reason']}"} if "reason" in tags else {}
        self._waiting_tags |= {**note, **tags}

    def describe(self, text: str) -> None:
        """Send the UI's description of the run, unless its user has written another since the last one."""
        tags = self.client.get_run(self.run_id).data.tags
        shown, ours = tags.get(_DESCRIPTION), tags.get(_DESCRIBED)
        if not shown or ours in (None, _digest(shown)):
            self.log_tags({_DESCRIPTION: text, _DESCRIBED: _digest(text)})

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Store a table as JSON, which the UI shows as a table, and as CSV; both replace the last ones of the name."""
        self.client.log_text(self.run_id, str(table.to_json(orient="split", index=False)), f"{name}.json")
        self.client.log_text(self.run_id, str(table.to_csv(index=False)), f"{name}.csv")
        self.log_tags({"mlflow.loggedArtifacts": json.dumps([{"path": f"{name}.json", "type": "table"}])})

    @contextmanager
    def artifacts(self) -> Iterator[Path]:
        """A folder whose files are stored with the run at the end; if the body raises, none of them are."""
        with tempfile.TemporaryDirectory(prefix="makemore-") as folder:
            yield Path(folder)
            patiently(lambda: self.client.log_artifacts(self.run_id, folder))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While inside, MLflow records the machine's state with the run, if the user asked for it."""
        if self.watch_every is None:
            yield
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor  # it needs psutil

        monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.run_id, sampling_interval=self.watch_every, tracking_uri=self.uri
        )
        monitor.start()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            monitor.finish()  # type: ignore[no-untyped-call]

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Send what is kept and close the run as FINISHED, FAILED or KILLED."""
        self.log_tags(tags or {})
        self.flush()
        patiently(lambda: self.client.set_terminated(self.run_id, status))

    def flush(self) -> None:
        """Send what is kept; what cannot be sent is kept for the next time."""
        tags = [RunTag(key, value) for key, value in self._waiting_tags.items()]
        while self._waiting or tags:
            # Nothing is recorded twice: a metric is known by its step and its time.
            patiently(partial(self.client.log_batch, self.run_id, metrics=self._waiting[:_MOST_METRICS], tags=tags))
            del self._waiting[:_MOST_METRICS]
            tags = []
        self._waiting_tags = {}
        self._flushed = time.monotonic()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def start_run(
    store: TrackingStore,
    name: str,
    kind: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    items: Items | None = None,
    parent_id: str | None = None,
    parts: tuple[str, ...] = ("train", "dev"),
) -> TrackedRun:
    """A new run, RUNNING.

    Args:
        kind: "train", "trial", "study" and so on.
        items: the data, whose parts are recorded by their digests.
        parent_id: the run under which the UI shows it.
    """
    all_tags = {"kind": kind, **version_tags(), **tags}
    if parent_id:
        all_tags["mlflow.parentRunId"] = parent_id
    # A run whose creation was recorded though no answer came stays RUNNING, until the runs of dead workers are closed.
    created = patiently(
        lambda: store.client.create_run(store.experiment_id, tags=all_tags, run_name=name[:_MOST_OF_NAME])
    )
    run = TrackedRun(store.client, created.info.run_id, store.uri, store.system_metrics)
    run.log_params(params)
    if items is not None:
        inputs = [dataset_input(items, part) for part in parts]
        patiently(lambda: store.client.log_inputs(run.run_id, inputs))
    return run


def open_study_run(
    store: TrackingStore, study: str, params: Mapping[str, Any], tags: Mapping[str, str], items: Items
) -> TrackedRun:
    """The parent run of a study: its existing run, RUNNING again, with the params that it lacks; or a new one."""
    existing = find_study_run(store, study)
    if existing is None:
        return start_run(store, study, "study", params, {"study": study, **tags}, items)
    run = _reopen(store, existing)
    run.log_params({key: value for key, value in params.items() if key not in existing.params})
    return run


def open_ladder_run(store: TrackingStore, ladder: str, items: Items) -> TrackedRun:
    """The parent run of a ladder's rungs: its existing run, RUNNING again, or a new one."""
    existing = find_ladder_run(store, ladder)
    if existing is None:
        return start_run(store, ladder, "ladder", {}, {"ladder": ladder}, items)
    return _reopen(store, existing)


def _reopen(store: TrackingStore, run: RunRecord) -> TrackedRun:
    patiently(lambda: store.client.update_run(run.run_id, "RUNNING"))
    return TrackedRun(store.client, run.run_id)
