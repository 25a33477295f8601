"""Runs in the order of their dev losses, and what tells them apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweeps.task.run_config import RUN_KEYS
from sweeps.tracking.queries import RunRecord
from sweeps.trials.winner import nan_last


@dataclass(frozen=True)
class Leaderboard:
    """Runs, the lowest dev loss first; the varying params are in the order in which the runs were given."""

    runs: Sequence[RunRecord]
    studies_vary: bool
    kinds_vary: bool
    varying: Sequence[str]  # keys of params that are not the same in all of the runs


def leaderboard(runs: Sequence[RunRecord]) -> Leaderboard:
    """The leaderboard of some runs.

    Runs that did not finish come last: their best dev loss is that of another amount of training.
    """
    return Leaderboard(
        runs=sorted(runs, key=_order),
        studies_vary=len({run.study for run in runs}) > 1,
        kinds_vary=len({run.kind for run in runs}) > 1,
        varying=[key for key in param_keys(runs) if len({run.params.get(key) for run in runs}) > 1],
    )


def param_keys(runs: Iterable[RunRecord]) -> list[str]:
    """The keys of the runs' configs, such as model.block_size and seed, in the order in which they first appear."""
    return list(dict.fromkeys(key for run in runs for key in run.params if is_param(key)))


def is_param(column: object) -> bool:
    """Whether a column holds a part of a run's config, as model.block_size and seed do."""
    return str(column).partition(".")[0] in RUN_KEYS


def _order(run: RunRecord) -> tuple[object, ...]:
    study = (run.study is None, run.study or "")
    trial = (run.trial is None, run.trial or 0)
    return run.state != "COMPLETE", nan_last(run.best_dev_loss), study, trial, run.run_id
