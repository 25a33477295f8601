"""MLflow's copies of the looks at test splits; the record that counts is in the study's database."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeps.tracking.queries import find_final_test_run, find_study_run, search_runs
from sweeps.tracking.runs import TrackedRun, start_run
from sweeps.tracking.store import TrackingStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes as long to import as a small query

_TAGS = ("study", "study_id", "look", "weights_digest", "who", "when")
_NOT_IN_A_NAME = re.compile(r"[^0-9A-Za-z.-]")  # what a metric's name should not have, or cannot
_PARAMS = ("study", "trial", "run_id", "config_hash", "split", "split_seed", "split_digest", "source_digest")


def log_look(
    store: TrackingStore,
    claim: Mapping[str, Any],
    result: Mapping[str, Any],
    texts: Mapping[str, str],
    figure: "Figure | None",
) -> None:
    """Copy a look to a run of kind "final_test" under the study's run, unless that has been done.

    Args:
        texts: files of the run, by name.
    """
    study = claim["study"]
    existing = find_final_test_run(store, study)
    if existing is not None and existing.status == "FINISHED":
        return
    if existing is not None:  # begun by a process that died
        run = TrackedRun(store.client, existing.run_id)
    else:
        parent = find_study_run(store, study)
        tags = {key: str(claim[key]) for key in _TAGS if key in claim}
        params = {key: claim[key] for key in _PARAMS}
        name = f"final test, look {claim['look']}"
        run = start_run(store, name, "final_test", params, tags, parent_id=parent.run_id if parent else None)
    metrics = {key: value for key, value in result.items() if isinstance(value, (int, float)) and key != "attempts"}
    for baseline in result["baselines"]:
        metrics[f"test_loss_{_NOT_IN_A_NAME.sub('_', baseline['name'])}"] = baseline["test_loss"]
    run.log_metrics(metrics)
    for name, text in texts.items():
        store.client.log_text(run.run_id, text, name)
    if figure is not None:
        store.client.log_figure(run.run_id, figure, "report.png", save_kwargs={"dpi": 80})
    run.end("FINISHED", {"claim_hash": result["claim"]})


def copied_looks(store: TrackingStore) -> list[dict[str, str]]:
    """What each copy says, in any experiment: study, source_digest and claim_hash, among others."""
    runs = search_runs(
        store, "tags.kind = 'final_test' and attributes.status = 'FINISHED'", "final_test", everywhere=True
    )
    return [{**run.params, **run.tags} for run in runs if "claim_hash" in run.tags and "source_digest" in run.params]


def read_look(store: TrackingStore, study: str) -> dict[str, str] | None:
    """What the copy of a study's look says: test_loss, look and weights_digest, among others; None without a copy."""
    run = find_final_test_run(store, study)
    if run is None or run.status != "FINISHED":
        return None
    return {**run.tags, "test_loss": repr(run.metrics.get("test_loss"))}
