"""How a task's items are dealt: groups stay together, and the door hands out what dealing held back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps import Task
from sweeps.errors import RequestError
from sweeps.task.held_out import read_test_items
from sweeps.task.items import deal_items, groups_of, read_items
from sweeps.task.split import SplitConfig


@dataclass(frozen=True)
class Listed(Task):
    """The items of a list; equal items are in one split by the rule `disjoint`."""

    items: tuple[Any, ...]

    def read(self) -> Sequence[str]:
        return self.items


@dataclass(frozen=True)
class Grouped(Listed):
    """Items "GROUP/NUMBER"."""

    def group(self, item: str) -> str:
        return item.partition("/")[0]


# The sizes of at least ten groups, which may have any names.
SIZES = st.dictionaries(st.text("abcdé ñ", max_size=4), st.integers(1, 6), min_size=10, max_size=40)
SEEDS = st.integers(0, 2**63 - 1)


def grouped(sizes: dict[str, int]) -> Grouped:
    return Grouped(tuple(f"{group}/{number}" for group, size in sizes.items() for number in range(size)))


def parts(task: Task, config: SplitConfig) -> list[list[str]]:
    """Train, dev and test, which the door hands out."""
    split = deal_items(task, config).split
    items = read_items(task)
    return [split.train, split.dev, read_test_items(items, config.rule, config.seed, groups_of(task, items))]


@given(sizes=SIZES, seed=SEEDS)
def test_no_group_is_in_two_splits_and_no_item_is_lost(sizes: dict[str, int], seed: int) -> None:
    task = grouped(sizes)
    dealt = parts(task, SplitConfig("disjoint", seed))
    assert sorted(item for part in dealt for item in part) == sorted(task.items)
    groups = [{task.group(item) for item in part} for part in dealt]
    assert all(groups)
    assert sum(map(len, groups)) == len(sizes)


@given(sizes=SIZES, seed=SEEDS)
def test_shares_count_groups_not_items(sizes: dict[str, int], seed: int) -> None:
    task = grouped(sizes)
    groups = [len({task.group(item) for item in part}) for part in parts(task, SplitConfig("disjoint", seed))]
    first, second = int(0.8 * len(sizes)), int(0.9 * len(sizes))
    assert groups == [first, second - first, len(sizes) - second]


@given(sizes=SIZES, seed=SEEDS, data=st.data())
def test_the_order_of_the_items_decides_nothing(sizes: dict[str, int], seed: int, data: st.DataObject) -> None:
    task, config = grouped(sizes), SplitConfig("disjoint", seed)
    shuffled = Grouped(tuple(data.draw(st.permutations(task.items))))
    assert [sorted(part) for part in parts(shuffled, config)] == [sorted(part) for part in parts(task, config)]
    split, other = deal_items(task, config).split, deal_items(shuffled, config).split
    for part in ("train", "dev", "test"):
        assert split.fingerprint(part) == other.fingerprint(part)
    assert split.source_digest == other.source_digest


@given(sizes=SIZES, seed=SEEDS)
def test_the_fingerprints_tell_items_from_the_same_items_in_other_groups(sizes: dict[str, int], seed: int) -> None:
    task, config = grouped(sizes), SplitConfig("disjoint", seed)
    alone = Listed(task.items)
    if len(task.items) > len(sizes):
        assert deal_items(task, config).split.source_digest != deal_items(alone, config).split.source_digest


@given(words=st.lists(st.text("ab", min_size=1, max_size=4), min_size=40, max_size=80), seed=SEEDS)
def test_equal_items_are_a_group_where_the_task_names_none(words: list[str], seed: int) -> None:
    task = Listed(tuple(words))
    assert groups_of(task, words) is None
    if len(set(words)) < 10:
        with pytest.raises(RequestError, match=r"Listed: the list has \d distinct items"):
            deal_items(task, SplitConfig("disjoint", seed))
        return
    train, dev, test = map(set, parts(task, SplitConfig("disjoint", seed)))
    assert train.isdisjoint(dev)
    assert train.isdisjoint(test)
    assert dev.isdisjoint(test)


def test_the_lectures_rule_is_refused_for_groups() -> None:
    task = grouped({str(number): 2 for number in range(20)})
    with pytest.raises(RequestError, match=r"data\.split is lecture; .*it must be disjoint"):
        deal_items(task, SplitConfig("lecture", 42))


@pytest.mark.parametrize("item", [3, None, b"a", "a\nb"])
def test_an_item_that_is_no_line_of_text_is_named(item: object) -> None:
    with pytest.raises(RequestError, match=r"Listed\.read returned .* as item 1; it must return text"):
        read_items(Listed(("a", item)))
