"""What a look declares before it is taken: how the winner was found, and what the test split will be able to show.

All figures come from dev. They are part of the claim, so that nobody can choose afterwards what was to be shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import torch
from optuna.trial import FrozenTrial

from makemore.bootstrap import sum_by_unit
from makemore.train import one_thread
from sweeps.look.beside import Beside, find_baselines
from sweeps.look.candidate import Candidate
from sweeps.reports.intervals import LEVEL, Interval, bonferroni, means
from sweeps.study.runs import item_losses
from sweeps.task.items import units_of
from sweeps.trials.trials import Trials

_POWER = 0.8  # how often a difference of the stated size would be found


@dataclass(frozen=True)
class Declaration:
    """The size of the search, and what one look can show; losses in the task's unit. None: there are too few items."""

    trials: int  # of the study's search that have finished
    dev_evaluations: int  # of the search and of the runs that confirmed
    other_studies: int  # of the same train and dev items, in the same database
    baselines: Sequence[str]  # with which the winner is compared
    half_width: float | None  # of the test loss's interval, as it is expected
    strongest: str | None  # the baseline with the lowest dev loss
    dev_difference: float | None  # its dev loss minus the winner's
    detectable: float | None  # the smallest difference from it that four looks of five would find

    def as_json(self) -> dict[str, Any]:
        """The declaration as it is recorded in the claim."""
        return asdict(self)


def declare(candidate: Candidate, beside: Beside, trials: Trials, confirm: Trials | None, look: int) -> Declaration:
    """The declaration of a look at the candidate's items.

    Args:
        look: which look it will be; from the second on, intervals are wider.
    """
    task, split = candidate.run.task, candidate.items.split
    with one_thread():
        losses, terms = item_losses(task, candidate.trained, split.dev)
        baselines, _ = find_baselines(candidate, beside, split.dev)
        table = torch.stack([losses, *(baseline.losses - losses for baseline in baselines)], dim=1)
        units = units_of(task, split.dev)
        if units is not None:
            table, terms = sum_by_unit(table, units), sum_by_unit(terms, units)
        own, *differences = means(table, terms)
    test_items = len(candidate.everything) - len(split.train) - len(split.dev)
    scale = math.sqrt(len(split.dev) / test_items) if test_items else math.nan
    strongest = min(range(len(baselines)), key=lambda index: differences[index].mean, default=None)
    difference = None if strongest is None else differences[strongest]
    return Declaration(
        trials=candidate.standing.finished,
        dev_evaluations=_evaluations(candidate.standing.own) + _evaluations(confirm.standing().own if confirm else ()),
        other_studies=_other_studies(trials),
        baselines=[baseline.name for baseline in baselines],
        half_width=_known(_half_width(own) * scale),
        strongest=None if strongest is None else baselines[strongest].name,
        dev_difference=None if difference is None else difference.mean,
        detectable=None if difference is None else _known(_detectable(difference, len(baselines) * look) * scale),
    )


def in_words(declared: Mapping[str, Any], unit: str) -> list[str]:
    """The sentences that tell a declaration, as it is recorded; none of a claim from before there were declarations."""
    if "half_width" not in declared:
        return []
    others = declared["other_studies"]
    lines = [
        f"Searched before: {declared['trials']} trials with {declared['dev_evaluations']} reported dev losses; "
        f"{others or 'no'} other {'study' if others == 1 else 'studies'} of the same items in this database."
    ]
    if declared["half_width"] is None:
        return [*lines, "Expected from dev: no interval, because there are too few items."]
    lines.append(f"Expected from dev: a test loss with an interval of about +- {declared['half_width']:.4f} {unit}.")
    if declared["detectable"] is not None:
        sign = "worse" if declared["dev_difference"] >= 0 else "better"
        lines.append(
            f"The strongest baseline is {declared['strongest']}, on dev {abs(declared['dev_difference']):.4f} {sign} "
            f"than the winner; a difference of {declared['detectable']:.4f} or more would be told from zero in four "
            "looks of five."
        )
    return lines


def _half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _detectable(interval: Interval, comparisons: int) -> float:
    """The difference that `_POWER` of all looks tell from zero, going by the width of its interval alone."""
    normal = NormalDist()
    error = _half_width(interval) / normal.inv_cdf((1 + LEVEL) / 2)
    return error * (normal.inv_cdf((1 + bonferroni(comparisons)) / 2) + normal.inv_cdf(_POWER))


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _evaluations(trials: Sequence[FrozenTrial]) -> int:
    """How often a dev loss was reported; a trial without reports has one."""
    return sum(max(1, len(trial.intermediate_values)) for trial in trials if trial.state.is_finished())


def _other_studies(trials: Trials) -> int:
    """How many other studies of the database search the same train and dev items."""
    keys = ("data train", "data dev")
    mine = trials.study.user_attrs.get("identity", {})
    others = [
        study.user_attrs.get("identity", {})
        for study in trials.storage.get_all_studies()
        if study.study_name != trials.name
    ]
    return sum(bool(other) and all(other.get(key) == mine.get(key) for key in keys) for other in others)
