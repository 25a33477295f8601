"""The door to the items of the test split. Only the room `sweeps.look` may open it."""

from collections.abc import Sequence

from makemore.data import deal


def read_test_items(items: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None = None) -> list[str]:
    """The test items of a list, in the order of the split. Calling this is looking.

    Args:
        groups: the group of each item, where the task groups them.
    """
    return [items[index] for index in deal(items if groups is None else groups, rule, seed)[2]]


def share_of(items: Sequence[str], rule: str, seed: int, other_rule: str, other_seed: int) -> float:
    """The fraction of a split's test items that also stand in another's test part: a number, and no item, comes out."""
    other = {items[index] for index in deal(items, other_rule, other_seed)[2]}
    mine = deal(items, rule, seed)[2]
    return sum(items[index] in other for index in mine) / len(mine)
