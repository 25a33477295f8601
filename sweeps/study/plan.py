"""What every worker of a study knows."""

import time
from dataclasses import dataclass

from omegaconf import DictConfig

from sweeps.search.space import Space
from sweeps.study.jobs import Jobs
from sweeps.trials.confirm import ConfirmConfig
from sweeps.trials.standing import Standing


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
    stop_seen: str | None  # the id of the last request to stop that came before this plan
    ended_before: int  # trials that had ended when this plan was made
    seed: int
    confirm: ConfirmConfig
    patience: int | None  # how many trials may finish since the best one
    workers: int
    workers_per_job: int  # of a launcher's job
    deadline: float | None  # seconds since the epoch

    def is_patient_no_more(self, standing: Standing) -> bool:
        """Whether study.patience ends the search."""
        return self.patience is not None and standing.since_best >= self.patience

    def is_late(self, needed: float = 0.0) -> bool:
        """Whether fewer than `needed` seconds are left of study.timeout."""
        return self.deadline is not None and time.time() + needed > self.deadline
