"""The door to the words of the test split. Only the code of the one look may open it."""

from collections.abc import Sequence

from makemore.data import deal


def read_test_words(words: Sequence[str], rule: str, seed: int) -> list[str]:
    """The test words of a list, in the order of the split. Calling this counts as looking."""
    return [words[index] for index in deal(words, rule, seed)[2]]


def share_of(words: Sequence[str], rule: str, seed: int, other_rule: str, other_seed: int) -> float:
    """The fraction of a split's test items that are also test items of another split; no item is revealed."""
    other = {words[index] for index in deal(words, other_rule, other_seed)[2]}
    mine = deal(words, rule, seed)[2]
    return sum(words[index] in other for index in mine) / len(mine)
