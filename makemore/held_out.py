"""The door to the words of the test split. Only `sweeps.final_test` may open it."""

from collections.abc import Sequence

from makemore.data import deal


def read_test_words(words: Sequence[str], rule: str, seed: int) -> list[str]:
    """The test words of a list, in the order of the split. Calling this is looking."""
    return [words[index] for index in deal(words, rule, seed)[2]]
