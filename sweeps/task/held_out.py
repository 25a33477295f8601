"""The only code that touches test items. Only `sweeps.look` may call it."""

from collections.abc import Sequence

from makemore.data import deal
from sweeps.task.sketch import Sketch, sketch


def read_test_items(items: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None = None) -> list[str]:
    """The test items of a list, in the order of the split. A call of this function is a look.

    Args:
        groups: the group of each item; None if each item is its own group.
    """
    return _test_items(items, rule, seed, groups)


def sketch_test_items(items: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None, key: str) -> Sketch:
    """The sketch of a list's test items. Only hashes leave this function, and no model sees an item: it is no look."""
    return sketch(_test_items(items, rule, seed, groups), key)


def _test_items(items: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None) -> list[str]:
    return [items[index] for index in deal(items if groups is None else groups, rule, seed)[2]]
