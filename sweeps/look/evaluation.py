"""The evaluation of a claimed look: the only place that gets test items."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from makemore.bootstrap import sum_by_unit
from makemore.train import Diverged, one_thread
from sweeps.look.beside import Beside, find_baselines
from sweeps.look.candidate import Candidate
from sweeps.look.record import ATTEMPT, Claimed, Looks, Record
from sweeps.reports.intervals import Interval, bonferroni, mean_over_seeds, means
from sweeps.study.runs import item_losses
from sweeps.task import held_out
from sweeps.task.items import units_of
from sweeps.trials.attributes import WEIGHTS_DEV_LOSS
from sweeps.trials.seal import CLAIM

_TRIES = 3  # to record a result, each of which waits for a minute where SQLite is busy
_WAIT_SECONDS = 5.0


class NotRecorded(Exception):
    """A result could not be written; what it is must not be known before it is."""


def record_result(looks: Looks, candidate: Candidate, beside: Beside, claim: Record) -> None:
    """Read the test split, evaluate the winner on it, and record the result."""
    split = candidate.items.split
    items = held_out.read_test_items(candidate.everything, split.rule, split.seed, candidate.groups)
    with one_thread():
        try:
            result = evaluate(candidate, beside, items, claim.content["look"])
        except Diverged:
            result = without_loss(candidate, items)
    attempts = sum(record.kind in (CLAIM, ATTEMPT) for record in looks.records(candidate.study))
    content = {"study": candidate.study, "claim": claim.hash, "attempts": attempts, **result}
    for tries_left in reversed(range(_TRIES)):
        try:
            looks.result(content)
            return
        except Claimed:  # it was written, but the connection broke before that was said
            return
        except SQLAlchemyError as error:
            why = str(error).splitlines()[0]  # without the figures
            if not tries_left:
                raise NotRecorded(
                    f"the test split was evaluated, but its result could not be recorded ({why}), so it is not shown; "
                    "the same command completes the look"
                ) from None
            print(f"makemore: study.storage cannot be written now ({why}); trying again", file=sys.stderr)
            time.sleep(_WAIT_SECONDS)


def evaluate(candidate: Candidate, beside: Beside, items: Sequence[str], look: int = 1) -> dict[str, Any]:
    """Everything that one look tells: mean losses in the task's unit, with 95 % intervals over distinct items.

    It works on what it is handed alone. A `difference` is a baseline's loss minus the winner's, so a positive one means
    that the winner is better; `adjusted_low` and `adjusted_high` allow for the number of baselines, and of looks at
    these items (Bonferroni). `widened` ends, of the second look and later ones, allow for the number of looks.
    `seeds_...` are of the winner's setting with fresh seeds, over seeds and items together. `selection` is how much too
    good the search's choice made the dev loss look, going by fresh seeds; `dev_loss_corrected` is the search's best dev
    loss without the luck of having been chosen. A figure that does not exist is None.
    """
    task, split = candidate.run.task, candidate.items.split
    losses, terms = item_losses(task, candidate.trained, items)
    test_loss = float(losses.sum() / terms.sum())
    baselines, infinite = find_baselines(candidate, beside, items)
    remarks = [*beside.remarks, *infinite]

    units = units_of(task, items)

    def by_unit(rows: Tensor) -> Tensor:
        return rows if units is None else sum_by_unit(rows, units)

    unit_terms = by_unit(terms)
    table = by_unit(torch.stack([losses, *(baseline.losses - losses for baseline in baselines)], dim=1))
    over_items, *paired = means(table, unit_terms)
    [widened] = means(table[:, :1], unit_terms, bonferroni(look))
    adjusted = means(table[:, 1:], unit_terms, bonferroni(max(1, len(baselines)) * look))
    seeds = _seeds(beside, items, terms, remarks)
    over_seeds = None if seeds is None else mean_over_seeds(by_unit(seeds.T).T, unit_terms)
    known = set(split.train)
    fresh = torch.tensor([item not in known for item in items])
    too_good = candidate.confirmations[0].too_good if candidate.confirmations else None
    selection = beside.selection
    return {
        "test_loss": test_loss,
        **_ends("test_loss", over_items),
        **(_ends("test_loss_widened", widened) if look > 1 else {}),
        **task.other_units(test_loss),
        "item": task.item,
        "term": task.term,
        "unit": task.unit,
        f"{task.item}s": len(items),
        f"distinct_{task.item}s": len(set(items)),
        "units": len(unit_terms),
        f"{task.term}s": int(terms.sum()),
        "dev_loss": candidate.trial.value,
        "gap": test_loss - candidate.trial.user_attrs.get(WEIGHTS_DEV_LOSS, candidate.trial.values[0]),
        "selection": too_good,
        "dev_loss_corrected": selection.corrected.mean if selection else None,
        **_ends("dev_loss_corrected", selection.corrected if selection else None),
        "selection_trials": selection.trials if selection else None,
        "selection_left_out": selection.left_out if selection else None,
        "seeds_test_loss": over_seeds.mean if over_seeds else None,
        **_ends("seeds_test_loss", over_seeds),
        "seeds_test_losses": None if seeds is None else (seeds.sum(1) / terms.sum()).tolist(),
        "confirming_runs": candidate.confirming_runs,
        f"{task.item}s_also_in_train": int((~fresh).sum()),
        "test_loss_without_them": float(losses[fresh].sum() / terms[fresh].sum()) if fresh.any() else None,
        "baselines": [
            {
                "name": baseline.name,
                "smoothing": baseline.smoothing,
                "test_loss": float(baseline.losses.sum() / terms.sum()),
                "difference": row.mean,
                **_ends("", row),
                **_ends("adjusted", wider),
            }
            for baseline, row, wider in zip(baselines, paired, adjusted, strict=True)
        ],
        "first_trial": beside.first[0] if beside.first else None,
        "remarks": remarks,
    }


def without_loss(candidate: Candidate, items: Sequence[str]) -> dict[str, Any]:
    """The result of a look at which the winner's loss on some item is infinite or NaN: a look is spent all the same."""
    task = candidate.run.task
    return {
        **dict.fromkeys(["test_loss", "test_loss_low", "test_loss_high", "gap"]),
        "item": task.item,
        "term": task.term,
        "unit": task.unit,
        f"{task.item}s": len(items),
        "dev_loss": candidate.trial.value,
        "baselines": [],
    }


def _seeds(beside: Beside, items: Sequence[str], terms: Tensor, remarks: list[str]) -> Tensor | None:
    """Each item's loss with each of the seeds that confirmed the winner, (seeds, n); None without any."""
    if not beside.confirming:
        return None
    try:
        rows = [item_losses(recorded.config.task, recorded.trained, items) for recorded in beside.confirming]
    except Diverged:
        remarks.append("There is no mean over fresh seeds: with one of them, the test loss is infinite.")
        return None
    if any(not torch.equal(terms, own) for _, own in rows):
        remarks.append("There is no mean over fresh seeds: their losses have other numbers of terms.")
        return None
    return torch.stack([losses for losses, _ in rows])


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    """The ends of an interval by name; None where there is none."""
    ends = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    keys = [f"{name}_{end}".lstrip("_") for end in ("low", "high")]
    return {key: None if math.isnan(end) else end for key, end in zip(keys, ends, strict=True)}
