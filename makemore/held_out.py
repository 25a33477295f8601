"""The door to the words of the test split. Only `sweeps.final_test` may open it."""

from collections.abc import Sequence

from makemore.data import deal


def read_test_words(words: Sequence[str], rule: str, seed: int) -> list[str]:
    """The test words of a list, in the order of the split. Calling this is looking."""
    return [words[index] for index in deal(words, rule, seed)[2]]


def share_of(words: Sequence[str], rule: str, seed: int, other_rule: str, other_seed: int) -> float:
    """The fraction of a split's test items that also stand in another split's test part; no word is handed out."""
    other = set(read_test_words(words, other_rule, other_seed))
    mine = read_test_words(words, rule, seed)
    return sum(word in other for word in mine) / len(mine)
