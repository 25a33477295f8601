"""What a look declares before it is taken: how the winner was found, and what the test split will be able to show.

All figures come from dev. They are part of the claim, so that nobody can choose afterwards what was to be shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState

from makemore.bootstrap import FEWEST, sum_by_unit
from makemore.train import one_thread
from sweeps.look.beside import Beside, find_baselines
from sweeps.look.candidate import Candidate
from sweeps.reports.intervals import FEW, LEVEL, Interval, bonferroni, means
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
    detectable: float | None  # the smallest difference from it that four looks of five would detect

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
        adjusted = means(table[:, 1:], terms, bonferroni(max(1, len(baselines)) * look))
    test_items = len(candidate.everything) - len(split.train) - len(split.dev)
    scale = math.sqrt(len(split.dev) / test_items) if test_items >= FEWEST else math.nan
    strongest = min(range(len(baselines)), key=lambda index: differences[index].mean, default=None)
    detectable = None
    if strongest is not None and min(len(terms), test_items) >= FEW and (width := _half_width(adjusted[strongest])) > 0:
        detectable = _detectable(width, _half_width(differences[strongest])) * scale
    return Declaration(
        trials=candidate.standing.finished,
        dev_evaluations=_evaluations(candidate.standing.own) + _evaluations(confirm.standing().own if confirm else ()),
        other_studies=_other_studies(trials),
        baselines=[baseline.name for baseline in baselines],
        half_width=_known(_half_width(own) * scale),
        strongest=None if strongest is None else baselines[strongest].name,
        dev_difference=None if strongest is None else differences[strongest].mean,
        detectable=detectable,
    )


def in_words(declared: Mapping[str, Any], unit: str) -> list[str]:
    """The sentences that tell a declaration, as it is recorded; none of a claim from before there were declarations."""
    if "half_width" not in declared:
        return []
    others = declared["other_studies"]
    lines = [
        f"Searched before: {declared['trials']} trials; {declared['dev_evaluations']} dev losses were reported by them "
        "and by the runs that confirmed; "
        f"{others or 'no'} other {'study' if others == 1 else 'studies'} of the same items in this database."
    ]
    if declared["half_width"] is None:
        return [*lines, "Expected from dev: nothing, because there are too few dev or test items for an interval."]
    lines.append(f"Expected from dev: a test loss with an interval of about +- {declared['half_width']:.4f} {unit}.")
    if declared["detectable"] is not None:
        sign = "worse" if declared["dev_difference"] >= 0 else "better"
        lines.append(
            f"The strongest baseline is {declared['strongest']}, on dev {abs(declared['dev_difference']):.4f} {sign} "
            f"than the winner; a difference of {declared['detectable']:.4f} is the smallest that would be detected in "
            "four looks of five."
        )
    return lines


def _half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _detectable(adjusted: float, plain: float) -> float:
    """The difference that `_POWER` of all looks detect, from half the widths of its adjusted and its plain interval."""
    normal = NormalDist()
    return adjusted + plain * normal.inv_cdf(_POWER) / normal.inv_cdf((1 + LEVEL) / 2)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _evaluations(trials: Sequence[FrozenTrial]) -> int:
    """How many dev losses were reported; a complete trial that reported none has one."""
    return sum(len(trial.intermediate_values) or trial.state == TrialState.COMPLETE for trial in trials)


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
