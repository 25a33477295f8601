"""The only code that reads test items. Only `sweeps.look` may call it."""

from collections.abc import Sequence

from makemore.data import deal


def read_test_items(items: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None = None) -> list[str]:
    """The test items of a list, in the order of the split. A call of this function is a look.

    Args:
        groups: the group of each item; None if each item is its own group.
    """
    return [items[index] for index in deal(items if groups is None else groups, rule, seed)[2]]


def share_of(items: Sequence[str], rule: str, seed: int, other_rule: str, other_seed: int) -> float:
    """The fraction, in [0, 1], of a split's test items that are also test items of another split of the same list.

    No item is returned, so calling this is not a look.
    """
    other = {items[index] for index in deal(items, other_rule, other_seed)[2]}
    mine = deal(items, rule, seed)[2]
    return sum(items[index] in other for index in mine) / len(mine)
