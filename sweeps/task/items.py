"""A task's items, read and dealt into train and dev."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from makemore.bootstrap import unit_indices
from makemore.data import DataError, Split, split_words
from sweeps.config.messages import one_line
from sweeps.errors import RequestError
from sweeps.task.split import SplitConfig
from sweeps.task.task import Task


@dataclass(frozen=True, eq=False)
class Items:
    """The train and dev items of a list, and where they came from."""

    name: str  # of the list: given_names, names, towns.txt, or the class of an own task
    path: Path | None  # the file of the list, if there is one
    split: Split


def deal_items(task: Task, config: SplitConfig, items: tuple[str, ...] | None = None) -> Items:
    """A task's items, dealt into train and dev.

    Args:
        items: all items, if they have been read.

    Raises:
        RequestError: the items cannot be read, there are too few, or the split rule would separate their groups.
    """
    name, path = task.source()
    items = read_items(task) if items is None else items
    groups = groups_of(task, items)
    if groups is not None and config.rule != "disjoint":
        raise RequestError(f"data.split is {config.rule}; it must be disjoint for a task that groups its items")
    try:
        return Items(name, path, _split(items, groups, config))
    except DataError as error:
        raise RequestError(f"{name}: {error}") from None


def read_items(task: Task) -> tuple[str, ...]:
    """All items of a task, including test items: only for dealing them, and for the look.

    Raises:
        RequestError: the items cannot be read, or are not text without line ends.
    """
    try:
        items = tuple(task.read())
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{type(task).__name__}.read failed: {type(error).__name__}: {one_line(error)}") from None
    for place, item in enumerate(items):
        if not isinstance(item, str) or "\n" in item:
            raise RequestError(
                f"{type(task).__name__}.read returned {item!r} as item {place}; it must return text without line ends"
            )
    return items


def units_of(task: Task, items: Sequence[str]) -> Tensor | None:
    """The index of each item's unit, (n,) int64, for resampling; None if each item is a unit of its own.

    A unit is a group, or a text: equal items, and items of one group, tell less than as many independent ones would.
    """
    units = unit_indices(groups_of(task, items) or items)
    return units if len(units) and int(units.max()) + 1 < len(units) else None


def groups_of(task: Task, items: Sequence[str]) -> tuple[str, ...] | None:
    """The group of each item; None if the task does not group its items."""
    if type(task).group is Task.group:
        return None
    return tuple(str(task.group(item)) for item in items)


@functools.lru_cache(maxsize=4)
def _split(items: tuple[str, ...], groups: tuple[str, ...] | None, config: SplitConfig) -> Split:
    return split_words(items, config.rule, config.seed, groups)
