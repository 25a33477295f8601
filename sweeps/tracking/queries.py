"""Runs as MLflow has recorded them."""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mlflow.entities import LifecycleStage, Run, ViewType

from sweeps.config.names import check_study_name, is_study_name
from sweeps.connections import patiently
from sweeps.databases import hide_password
from sweeps.errors import RequestError
from sweeps.tracking.datasets import recorded_digest
from sweeps.tracking.store import TrackingStore

_PAGE = 1000  # runs a query
_COMPARABLE = ("train", "trial", "seed", "confirm")  # the kinds of run that have a dev loss
# What a run of a kind must have to be one of ours: anybody may give a run of their own such tags.
_OWN_TAGS = {
    "study": ("study",),
    "trial": ("study", "trial_number"),
    "seed": ("study", "trial_number"),
    "confirm": ("study", "trial_number", "confirm_number"),
    "ladder": ("ladder",),
    "final_test": ("study", "look", "weights_digest"),
}
_NUMBERS = ("trial_number", "confirm_number", "confirm_top", "confirm_seeds")
_STATES = {"FINISHED": "COMPLETE", "FAILED": "FAIL", "KILLED": "FAIL"}  # of a run of no study, in Optuna's words


@dataclass(frozen=True)
class RunRecord:
    """What MLflow has recorded about a run."""

    run_id: str
    kind: str | None  # "train", "trial", "confirm", "study" and so on
    study: str | None  # None for a run of no study
    trial: int | None  # the trial's number; for a run that confirms a trial, the number of that trial
    status: str  # in MLflow's words: RUNNING, FINISHED, FAILED or KILLED
    state: str  # in Optuna's words: RUNNING, COMPLETE, PRUNED or FAIL
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    dev_digest: str | None  # of the dev split: the losses of runs with equal digests compare
    is_deleted: bool = False  # in the MLflow UI, which can restore it

    @property
    def best_dev_loss(self) -> float:
        """Nats per character; NaN for a run that did not finish."""
        return self.metrics.get("best_dev_loss", math.nan)


@dataclass(frozen=True)
class Curve:
    """A metric over the steps of a run."""

    steps: Sequence[int]
    values: Sequence[float]


def study_runs(store: TrackingStore, study: str, kind: str = "trial", deleted: bool = False) -> list[RunRecord]:
    """The trials of a study; with kind "seed" the runs of their seeds, with "confirm" those that confirm; newest first.

    Args:
        deleted: whether to include those that were deleted in the MLflow UI.

    Raises:
        RequestError: not a study's name.
    """
    return search_runs(store, f"tags.kind = '{kind}' and tags.study = {_quoted(study)}", kind, deleted)


def running(store: TrackingStore, study: str, kind: str) -> list[tuple[str, int]]:
    """Runs of a study that are recorded as running: their ids, and the numbers of their trials in Optuna."""
    number = "confirm_number" if kind == "confirm" else "trial_number"
    of_study = f"tags.kind = '{kind}' and tags.study = {_quoted(study)}"
    runs = search_runs(store, f"{of_study} and attributes.status = 'RUNNING'", kind)
    return [(run.run_id, int(run.tags[number])) for run in runs]


def find_study_run(store: TrackingStore, study: str, deleted: bool = False) -> RunRecord | None:
    """A study's parent run; with `deleted`, also one that was deleted in the MLflow UI, where there is no other."""
    of_study = f"tags.study = {_quoted(study)}"
    return _newest(store, "study", of_study) or (_newest(store, "study", of_study, deleted) if deleted else None)


def newest_study_run(store: TrackingStore) -> RunRecord | None:
    """The parent run of the study that was started last."""
    return _newest(store, "study")


def find_ladder_run(store: TrackingStore, ladder: str) -> RunRecord | None:
    """The parent run of a ladder's rungs."""
    return _newest(store, "ladder", f"tags.ladder = {_quoted(ladder)}")


def find_final_test_run(store: TrackingStore, study: str) -> RunRecord | None:
    """The run of the look at the test split for a study's winner."""
    return _newest(store, "final_test", f"tags.study = {_quoted(study)}")


def ladder_rungs(store: TrackingStore, ladder: str) -> list[RunRecord]:
    """The runs under a ladder's parent run, newest first."""
    return search_runs(store, f"tags.kind = 'train' and tags.ladder = {_quoted(ladder)}", "train")


def find_runs(store: TrackingStore, ids: Sequence[str], given: str) -> list[RunRecord]:
    """Runs of kind "train", "trial" or "confirm", in the order of the ids.

    Args:
        ids: whole ids, or as many of their first characters as no other run shares.
        given: how the user gave the ids, for messages: "runs has".

    Raises:
        RequestError: no such run, several of them, or a run of another kind.
    """
    return [_find_run(store, run_id, given) for run_id in ids]


def _find_run(store: TrackingStore, run_id: str, given: str) -> RunRecord:
    is_beginning = re.fullmatch("[0-9a-f]{1,32}", run_id)
    runs = search_runs(store, f"attributes.run_id LIKE '{run_id}%'", deleted=True) if is_beginning else []
    if runs and all(run.is_deleted for run in runs):
        raise RequestError(f"{given} {run_id}; that run was deleted: {restore_with([runs[0].run_id])}")
    runs = [run for run in runs if not run.is_deleted]
    if not runs:
        raise RequestError(f"{given} {run_id}; {hide_password(store.uri)} has no such run: see makemore ui")
    comparable = [run for run in runs if run.kind in _COMPARABLE]
    if not comparable:
        raise RequestError(f"{given} {run_id}; that is a run of kind {runs[0].kind}, not {', '.join(_COMPARABLE)}")
    if len(comparable) > 1:
        some = ", ".join(run.run_id for run in comparable[:2])
        raise RequestError(f"{given} {run_id}; {len(comparable)} runs begin with it ({some}, ...): give more of the id")
    return comparable[0]


def read_curves(store: TrackingStore, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
    """The curve of a metric for each run, by run id; each takes one query."""
    curves = {}
    for run_id in run_ids:
        points = sorted(store.client.get_metric_history(run_id, metric), key=lambda point: point.step)
        curves[run_id] = Curve([point.step for point in points], [_as_logged(point.value) for point in points])
    return curves


def read_reports(store: TrackingStore, run_id: str) -> list[dict[str, float]]:
    """What a run reported: for each evaluation its step, dev_loss and, where they were given, train_loss and lr."""
    points: dict[int, dict[str, float]] = {}
    for metric in ("dev_loss", "train_loss", "lr"):
        for point in store.client.get_metric_history(run_id, metric):
            points.setdefault(point.step, {"step": point.step})[metric] = _as_logged(point.value)
    return [points[step] for step in sorted(points) if "dev_loss" in points[step]]


def _quoted(study: str) -> str:
    """A study's name as a string in MLflow's filter language, which has no escapes.

    Raises:
        RequestError: not a study's name.
    """
    check_study_name(study)
    return f"'{study}'"


def search_runs(
    store: TrackingStore,
    filter_string: str,
    kind: str | None = None,
    deleted: bool = False,
    everywhere: bool = False,
) -> list[RunRecord]:
    """The runs that a filter in MLflow's language selects, newest first.

    Args:
        kind: leaves out the runs that are not of this kind, though they may have its tag.
        deleted: whether to include runs that were deleted in the MLflow UI.
        everywhere: whether to search all experiments, and not only the store's own.
    """
    experiments = [store.experiment_id]
    if everywhere:
        experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return list(_search(store, experiments, filter_string, kind, deleted, _PAGE))


def restore_with(run_ids: Sequence[str]) -> str:
    """How runs that were deleted in the MLflow UI are had back, for messages."""
    commands = " and ".join(f"mlflow runs restore --run-id {run_id}" for run_id in run_ids)
    return f"restore it in the MLflow UI (State: Deleted), or with {commands} and MLFLOW_TRACKING_URI set"


def _search(
    store: TrackingStore, experiments: list[str], filter_string: str, kind: str | None, deleted: bool, page_size: int
) -> Iterator[RunRecord]:
    view, token = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY, None
    while True:
        query = partial(store.client.search_runs, experiments, filter_string, view, page_size, page_token=token)
        page = patiently(query)
        yield from (run for run in map(_record, page) if kind in (None, run.kind))
        token = page.token
        if not token:
            return


def _newest(store: TrackingStore, kind: str, condition: str = "", deleted: bool = False) -> RunRecord | None:
    filter_string = " and ".join(filter(None, [f"tags.kind = '{kind}'", condition]))
    return next(_search(store, [store.experiment_id], filter_string, kind, deleted, page_size=10), None)


def _record(run: Run) -> RunRecord:
    tags = run.data.tags
    kind = tags.get("kind") if _is_own(tags) else None
    # A trial's state is what Optuna was told, which its tag says; without the tag it is still running.
    state = "RUNNING" if "study" in tags else _STATES.get(run.info.status, "RUNNING")
    return RunRecord(
        run_id=run.info.run_id,
        kind=kind,
        study=tags.get("study"),
        trial=int(tags["trial_number"]) if kind and "trial_number" in tags else None,
        status=run.info.status,
        state=tags.get("trial_state", state),
        metrics={key: _as_logged(value) for key, value in run.data.metrics.items()},
        params=run.data.params,
        tags=tags,
        dev_digest=recorded_digest(run, "dev"),
        is_deleted=run.info.lifecycle_stage == LifecycleStage.DELETED,
    )


def _is_own(tags: Mapping[str, str]) -> bool:
    """Whether a run has what the runs of its kind have."""
    return (
        all(tag in tags for tag in _OWN_TAGS.get(str(tags.get("kind")), ()))
        and all(tags[tag].isdecimal() for tag in _NUMBERS if tag in tags)
        and is_study_name(tags.get("study", "none"))
    )


def _as_logged(value: float) -> float:
    """MLflow keeps an infinite metric as the largest number that there is."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
