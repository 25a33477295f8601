"""Views of MLflow's UI: tables of runs, each with its filter, order and columns, opened by an address.

The UI keeps a view as a tag of the experiment, and opens the one that an address names. So a study's view is saved when
the study starts, and everybody who opens the address sees the same table. Without the tag, as for studies that earlier
versions made, the address carries the filter and the order itself, and the columns are the UI's own.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from sweeps.databases import locked
from sweeps.tracking.store import TrackingStore

_TRAINING = {"workflowType": "machine_learning"}  # without it, a new browser shows the UI's view for agents
_MOST_CHARACTERS = 20_000  # of a tag of an experiment
_NAME = "attributes.`Run Name`"
_BEFORE = [_NAME, "runDateAndNestInfo", "duration"]  # the UI's own columns, which stand before the selected ones
_NAME_WIDTH = 260  # pixels, as all widths
_LEAST_WIDTH, _LETTER = 110, 9


@dataclass(frozen=True)
class View:
    """A table of runs in the UI."""

    key: str  # in addresses
    name: str  # as people read it
    runs: str  # a filter in MLflow's language
    order: str  # the column by which the runs are sorted, the lowest first
    columns: Sequence[str]
    widths: Mapping[str, int] = field(default_factory=dict)  # of columns that hold long texts

    @property
    def tag(self) -> str:
        """The experiment's tag that keeps the view: what the UI's own button "Share" writes."""
        return f"mlflow.sharedViewState.{self.key}"

    @property
    def _facets(self) -> dict[str, object]:
        return {"searchFilter": self.runs, "orderByKey": self.order, "orderByAsc": True}

    def saved(self) -> str:
        """The view as the UI keeps it."""
        headings = {column: max(_LEAST_WIDTH, _LETTER * len(column.partition(".")[2])) for column in self.columns}
        state = {
            **self._facets,
            "selectedColumns": self.columns,
            "columnOrder": [*_BEFORE, *self.columns],
            "columnWidths": {_NAME: _NAME_WIDTH, **headings, **self.widths},
        }
        now = int(time.time() * 1000)
        return json.dumps({"name": self.name, "createdAt": now, "updatedAt": now, "state": json.dumps(state)})

    def address(self, store: TrackingStore) -> str:
        """The path of the view in the UI."""
        tags = store.client.get_experiment(store.experiment_id).tags
        facets = {key: str(value).lower() if value is True else value for key, value in self._facets.items()}
        query = {"viewStateShareKey": self.key} if self.tag in tags else facets
        return f"/#/experiments/{store.experiment_id}/runs?{urlencode({**_TRAINING, **query})}"


def _metric(key: str) -> str:
    return f"metrics.`{key}`"


def _param(key: str) -> str:
    return f"params.`{key}`"


def run_address(store: TrackingStore, run_id: str) -> str:
    """The path of a run's page in the UI."""
    return f"/#/experiments/{store.experiment_id}/runs/{run_id}?{urlencode(_TRAINING)}"


def study_view(study: str, searched: Sequence[str] = ()) -> View:
    """The trials of a study by dev loss, with the values of the keys that it searched.

    Args:
        searched: the keys; needed to save the view, not for its address.
    """
    return View(
        key=f"study-{study}",
        name=f"trials of {study}",
        runs=f"tags.kind = 'trial' and tags.study = '{study}'",
        order=_metric("best_dev_loss"),
        columns=[_metric("best_dev_loss"), *map(_param, searched), _metric("parameters"), _metric("train_seconds")],
    )


_COUNTS = [_metric(f"trials_{state}") for state in ("complete", "pruned", "failed")]
STUDIES = View(
    key="studies",
    name="studies",
    runs="tags.kind = 'study'",
    order=_metric("best_dev_loss"),
    columns=[
        *(_metric("best_dev_loss"), _metric("confirmed_dev_loss"), _metric("trials")),
        *(_param("list"), _param("searched"), *_COUNTS, _param("data.split"), _param("model"), _param("space")),
    ],
    widths={_param("list"): 150, _param("searched"): 400},
)


def save_views(store: TrackingStore, *views: View) -> None:
    """Save views, but for those that have been saved before: somebody may have changed them since."""
    missing = _missing(store, views)
    if not missing:
        return
    with locked(store.uri, "schema"):  # two processes that add one tag at once would get an error
        for view in _missing(store, missing):
            if len(saved := view.saved()) <= _MOST_CHARACTERS:
                store.client.set_experiment_tag(store.experiment_id, view.tag, saved)


def _missing(store: TrackingStore, views: Iterable[View]) -> list[View]:
    tags = store.client.get_experiment(store.experiment_id).tags
    return [view for view in views if view.tag not in tags]
