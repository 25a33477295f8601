"""The study's own run in MLflow, opened: what it searches and what is fixed, as people compare studies by it."""

from omegaconf import DictConfig

from sweeps.search.space import Space
from sweeps.study.identity import Identity
from sweeps.tracking.runs import TrackedRun, open_study_run
from sweeps.tracking.store import TrackingStore
from sweeps.tracking.views import STUDIES, save_views, study_view
from sweeps.trials.confirm import ConfirmConfig


def open_record(
    store: TrackingStore, name: str, cfg: DictConfig, confirm: ConfirmConfig, identity: Identity, space: Space
) -> TrackedRun:
    """The run of a study, RUNNING, with the UI's view of its trials."""
    tags = {"confirm_top": str(confirm.top), "confirm_seeds": str(confirm.seeds)}
    run = open_study_run(store, name, _params(cfg, identity, space), tags, identity.items)
    save_views(store, STUDIES, study_view(name, tuple(space.distributions)))
    return run


def _params(cfg: DictConfig, identity: Identity, space: Space) -> dict[str, str]:
    """Only what cannot change while the study goes on: MLflow lets no param have another value."""
    items = identity.items
    params = {"list": items.name, "space": str(cfg.space.name), "searched": ", ".join(space.distributions)}
    params |= {f"space.{key}": space.words(key) for key in space.distributions} | identity.fixed
    return params | ({"data.path": str(items.path)} if cfg.data.path and items.path else {})
