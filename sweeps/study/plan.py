"""What every worker of a study knows."""

import time
from dataclasses import dataclass

from omegaconf import DictConfig

from sweeps.search.space import Space
from sweeps.study.jobs import Jobs
from sweeps.trials.confirm import ConfirmConfig


@dataclass(frozen=True)
class Plan:
    """A study as its workers carry it out; it can be sent to another process or machine."""

    name: str
    storage: str  # a resolved URL
    cfg: DictConfig
    jobs: Jobs
    space: Space
    parent_id: str  # of the study's run in MLflow
    n_trials: int
    in_full: bool  # every setting of the space is tried, instead of what a sampler draws
    seeds: tuple[int, ...]  # that each setting is trained with
    most_failures: int  # no trial is started in a study that has so many failed ones
    ended_before: int  # trials that had ended when this plan was made
    seed: int
    confirm: ConfirmConfig
    workers: int
    deadline: float | None  # seconds since the epoch

    def is_late(self, needed: float = 0.0) -> bool:
        """Whether fewer than `needed` seconds are left of study.timeout."""
        return self.deadline is not None and time.time() + needed > self.deadline
