"""The evaluation of a claimed look: the only place that gets test items."""

import sys
import time
from typing import Any

import torch
from sqlalchemy.exc import SQLAlchemyError

from makemore.bootstrap import intervals
from makemore.train import one_thread
from sweeps.look.candidate import Candidate
from sweeps.look.record import ATTEMPT, Looks, Record
from sweeps.study.runs import item_losses
from sweeps.task import held_out
from sweeps.trials.seal import CLAIM

_TRIES = 3  # to record a result, each of which waits for a minute where SQLite is busy
_WAIT_SECONDS = 5.0


class NotRecorded(Exception):
    """A result could not be written; what it is must not be known before it is."""


def record_result(looks: Looks, candidate: Candidate, claim: Record) -> None:
    """Read the test split, evaluate the winner on it, and record the result."""
    split = candidate.items.split
    items = held_out.read_test_items(candidate.everything, split.rule, split.seed, candidate.groups)
    with one_thread():
        result = evaluate(candidate, items)
    attempts = sum(record.kind in (CLAIM, ATTEMPT) for record in looks.records(candidate.study))
    content = {"study": candidate.study, "claim": claim.hash, "attempts": attempts, **result}
    for tries_left in reversed(range(_TRIES)):
        try:
            looks.result(content)
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


def evaluate(candidate: Candidate, items: list[str]) -> dict[str, Any]:
    """Everything that one look tells: mean losses in the task's unit, with 95 % intervals over items.

    `selection` is how much too good the search's choice made the dev loss look; `difference` is a baseline's loss
    minus the winner's, so a positive difference means that the winner is better.
    """
    task, split = candidate.run.task, candidate.items.split
    losses, terms = item_losses(task, candidate.trained, items)
    test_loss = float(losses.sum() / terms.sum())
    baselines = task.baselines(split.train, split.dev, items)
    differences = [baseline.losses - losses for baseline in baselines]
    (low, high), *paired = intervals(torch.stack([losses, *differences], dim=1), terms, _generator())
    known = set(split.train)
    fresh = torch.tensor([item not in known for item in items])
    too_good = candidate.confirmations[0].too_good if candidate.confirmations else None
    return {
        "test_loss": test_loss,
        "test_loss_low": low,
        "test_loss_high": high,
        **task.other_units(test_loss),
        "item": task.item,
        "term": task.term,
        "unit": task.unit,
        f"{task.item}s": len(items),
        f"{task.term}s": int(terms.sum()),
        "dev_loss": candidate.trial.value,
        "gap": test_loss - candidate.trial.values[0],
        "selection": too_good,
        f"{task.item}s_also_in_train": int((~fresh).sum()),
        "test_loss_without_them": float(losses[fresh].sum() / terms[fresh].sum()) if fresh.any() else None,
        "baselines": [
            {
                "name": baseline.name,
                "smoothing": baseline.smoothing,
                "test_loss": float(baseline.losses.sum() / terms.sum()),
                "difference": float((baseline.losses - losses).sum() / terms.sum()),
                "low": lower,
                "high": upper,
            }
            for baseline, (lower, upper) in zip(baselines, paired, strict=True)
        ],
    }


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)  # so that the same weights always get the same interval
