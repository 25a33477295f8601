"""Runs in the order of their dev losses, and what tells them apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.task.run_config import RUN_KEYS
from sweeps.tracking.queries import RunRecord
from sweeps.trials.attributes import DIED, GIVEN_UP, INTERRUPTED, NOT_RECORDED
from sweeps.trials.winner import nan_last

_NO_FAILURE = {INTERRUPTED: "INTERRUPTED", GIVEN_UP: "GIVEN UP", DIED: "DIED"}  # by the reason of a run's end


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


def outcome(run: RunRecord) -> str:
    """How a run ended, for people: its state in Optuna's words, but FAIL only where the run failed of itself."""
    if run.state != "FAIL":
        return run.state
    reason = run.tags.get("reason", "")
    if reason.startswith("KeyboardInterrupt"):  # of a single run
        reason = INTERRUPTED
    if reason.startswith(NOT_RECORDED):
        return "NOT RECORDED"
    return _NO_FAILURE.get(reason, run.state)


def data_name(run: RunRecord) -> str | None:
    """The list of items that a run learned from: its name, or that of the user's file; None for a user's own task."""
    name = run.params.get("data")
    return Path(run.params.get("data.path", "")).name if name == "file" else name


def data_in_words(runs: Iterable[RunRecord]) -> str:
    """The lists that runs learned from, each with its split."""
    named = ((data_name(run) or run.params.get("task"), run.params.get("data.split")) for run in runs)
    return "; ".join(dict.fromkeys(f"{name}, {split} split" for name, split in named if name and split))


def loss_label(runs: Iterable[RunRecord]) -> str:
    """The label of an axis of dev losses, with their unit where all runs have the shipped task's."""
    tasks = {run.params.get("task", "language_model") for run in runs}  # the oldest records have no task
    return "dev loss, nats per character" if tasks == {"language_model"} else "dev loss"


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
