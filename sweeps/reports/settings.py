"""Settings: configs without their seeds, each with the mean dev loss over its runs and an interval for it."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sweeps.reports.intervals import LEVEL
from sweeps.reports.leaderboard import Leaderboard, leaderboard
from sweeps.tracking.queries import RunRecord
from sweeps.trials.winner import nan_last


@dataclass(frozen=True)
class SettingResult:
    """The runs of one config without its seed; losses in nats per character."""

    runs: Sequence[RunRecord]  # one for each seed, the lowest dev loss first
    mean_dev_loss: float  # infinite if a seed diverged
    sd: float  # NaN for one run, or if a run diverged
    low: float  # ends of the mean's 95 % t-interval; NaN where there is no sd
    high: float
    train_seconds: float  # the mean

    @property
    def group(self) -> str:
        """The hash of the config without its seed."""
        return self.runs[0].tags["group_hash"]

    @property
    def best(self) -> RunRecord:
        """The run with the lowest dev loss."""
        return self.runs[0]


@dataclass(frozen=True)
class SettingResults:
    """Settings, the lowest mean dev loss first, and the leaderboard of all of their runs."""

    rows: Sequence[SettingResult]
    board: Leaderboard


def settings(runs: Iterable[RunRecord]) -> SettingResults:
    """The settings of some runs.

    Runs of equal configs count once: the others say the same again. A seed of a trial, or of a confirmation, that
    diverged makes the mean infinite; other runs that did not finish are left out.
    """
    board = leaderboard([_with_divergence(run) for run in runs if _counts(run) and "group_hash" in run.tags])
    distinct: dict[str | None, RunRecord] = {}
    for run in board.runs:
        distinct.setdefault(run.tags.get("config_hash"), run)
    groups: dict[str, list[RunRecord]] = {}
    for run in distinct.values():
        groups.setdefault(run.tags["group_hash"], []).append(run)
    rows = [_summarize(group) for group in groups.values()]
    return SettingResults(sorted(rows, key=lambda row: nan_last(row.mean_dev_loss)), board)


def _counts(run: RunRecord) -> bool:
    return run.state == "COMPLETE" or _diverged(run)


def _diverged(run: RunRecord) -> bool:
    if run.kind == "seed":
        return run.state == "PRUNED" and run.tags.get("reason", "").startswith("Diverged")
    return run.kind == "confirm" and run.state == "PRUNED"  # nothing else prunes a run that confirms


def _with_divergence(run: RunRecord) -> RunRecord:
    return replace(run, metrics={**run.metrics, "best_dev_loss": math.inf}) if _diverged(run) else run


def _summarize(runs: Sequence[RunRecord]) -> SettingResult:
    from scipy.special import stdtrit  # takes long to import

    losses = _known(run.best_dev_loss for run in runs)
    n, mean = len(runs), _mean(losses)
    sd = statistics.stdev(losses) if len(losses) > 1 and math.isfinite(mean) else math.nan
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(n) if n > 1 else math.nan
    seconds = _mean(_known(run.metrics.get("train_seconds", math.nan) for run in runs))
    return SettingResult(runs, mean, sd, mean - half, mean + half, seconds)


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
