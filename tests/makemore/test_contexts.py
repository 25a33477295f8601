import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore.contexts import build_examples, distinct_contexts
from makemore.data import Alphabet

WORDS = st.lists(st.text("abcé", min_size=1, max_size=7), min_size=1, max_size=20)


def plain_examples(words: list[str], alphabet: Alphabet, block_size: int) -> tuple[list[list[int]], list[int]]:
    """The lecture's loops."""
    x, y = [], []
    for word in words:
        context = [0] * block_size
        for character in word + alphabet.boundary:
            x.append(context)
            y.append(alphabet.stoi[character])
            context = [*context[1:], y[-1]]
    return x, y


def test_emma_with_block_size_3_gives_the_lectures_five_pairs() -> None:
    alphabet = Alphabet.of(["emma"])
    examples = build_examples(["emma"], alphabet, 3)
    index = torch.arange(len(examples))
    pairs = [
        "".join(alphabet.itos[token] for token in context) + " " + alphabet.itos[token]
        for context, token in zip(examples.x(index).tolist(), examples.y(index).tolist(), strict=True)
    ]
    assert pairs == ["... e", "..e m", ".em m", "emm a", "mma ."]


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 9))
def test_examples_are_those_of_the_lectures_loops(words: list[str], block_size: int) -> None:
    alphabet = Alphabet.of(words)
    examples = build_examples(words, alphabet, block_size)
    x, y = plain_examples(words, alphabet, block_size)
    index = torch.arange(len(examples))
    assert examples.x(index).tolist() == x
    assert examples.y(index).tolist() == y


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 9))
def test_distinct_contexts_count_every_example_once(words: list[str], block_size: int) -> None:
    alphabet = Alphabet.of(words)
    examples = build_examples(words, alphabet, block_size)
    contexts = distinct_contexts(examples)
    x, y = plain_examples(words, alphabet, block_size)
    counted = {}
    for block, row, entries in contexts.blocks(rows=3):
        token, count = contexts.next_tokens[entries], contexts.counts[entries]
        for pair in zip(block[row].tolist(), token.tolist(), count.tolist(), strict=True):
            counted[tuple(pair[0]), pair[1]] = pair[2]
    pairs = [(tuple(context), token) for context, token in zip(x, y, strict=True)]
    assert counted == {pair: pairs.count(pair) for pair in pairs}
    assert contexts.x[contexts.index.long()].tolist() == x


def test_contexts_too_long_for_one_integer_key_are_told_apart() -> None:
    words = ["a" * 40 + tail for tail in ("bc", "bd", "cd")]
    alphabet = Alphabet.of([*words, "efghijklmnopqrstuvwxyz"])
    examples = build_examples(words, alphabet, 20)
    contexts = distinct_contexts(examples)
    assert len(contexts) == len({tuple(row) for row in examples.x(torch.arange(len(examples))).tolist()})


def test_targets_are_what_follows_a_context_anywhere() -> None:
    words = ["ab", "ab", "ac"]
    alphabet = Alphabet.of(words)
    contexts = distinct_contexts(build_examples(words, alphabet, 2))
    after_a = contexts.x.tolist().index([0, alphabet.stoi["a"]])
    start = contexts.x.tolist().index([0, 0])
    rows = contexts.targets(torch.tensor([after_a, start, after_a]))
    expected = torch.tensor([[0, 0, 2 / 3, 1 / 3], [0, 1, 0, 0], [0, 0, 2 / 3, 1 / 3]])
    torch.testing.assert_close(rows, expected)


def test_a_character_outside_the_alphabet_is_named() -> None:
    with pytest.raises(ValueError, match="'z' is not in the alphabet"):
        build_examples(["az"], Alphabet.of(["ab"]), 2)


def test_more_than_256_characters_fit() -> None:
    words = [chr(code) for code in range(0x4E00, 0x4E00 + 300)]
    examples = build_examples(words, Alphabet.of(words), 2)
    assert sorted(examples.y(torch.arange(0, 600, 2)).tolist()) == list(range(1, 301))
