import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from makemore.bootstrap import intervals
from makemore.contexts import build_examples
from makemore.data import Alphabet
from makemore.evaluate import sum_by_word, word_losses
from makemore.model import MLP, MLPConfig
from makemore.ngram import count_ngrams

WORDS = st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=20)


@given(WORDS, WORDS, st.integers(1, 4), st.sampled_from([0.0, 0.5, 2.0]))
def test_counts_with_additive_smoothing_are_those_of_plain_loops(
    train: list[str], other: list[str], block_size: int, smoothing: float
) -> None:
    alphabet = Alphabet.of("abc")
    followed: dict[tuple[str, str], int] = {}
    seen: dict[str, int] = {}

    def pairs(words: list[str]) -> list[tuple[str, str]]:
        found = []
        for word in words:
            text = "." * block_size + word + "."
            found += [(text[i - block_size : i], text[i]) for i in range(block_size, len(text))]
        return found

    for context, character in pairs(train):
        followed[context, character] = followed.get((context, character), 0) + 1
        seen[context] = seen.get(context, 0) + 1
    expected = []
    for context, character in pairs(other):
        above, below = followed.get((context, character), 0) + smoothing, seen.get(context, 0) + 4 * smoothing
        expected.append(-math.log(above / below) if above else math.inf)
    counts = count_ngrams(build_examples(train, alphabet, block_size), build_examples(other, alphabet, block_size))
    assert counts.losses(smoothing).tolist() == pytest.approx(expected)


def test_losses_of_words_are_their_characters_summed() -> None:
    alphabet = Alphabet.of("abc")
    words = ["abca", "b", "cc"]
    model = MLP(MLPConfig(2, 3, 5, 0.0), 4, torch.Generator().manual_seed(1))
    losses, characters = word_losses(model, words, alphabet, 2)
    for word, loss, count in zip(words, losses.tolist(), characters.tolist(), strict=True):
        text = ".." + word + "."
        tokens = [alphabet.stoi[character] for character in text]
        logits = model(torch.tensor([tokens[i - 2 : i] for i in range(2, len(tokens))]))
        picked = torch.log_softmax(logits, 1)[range(len(tokens) - 2), tokens[2:]]
        assert loss == pytest.approx(-picked.sum().item(), abs=1e-6)
        assert count == len(word) + 1
    assert sum_by_word(torch.ones(10, dtype=torch.float64), ["abca", "b", "cc"])[0].tolist() == [5.0, 2.0, 3.0]


@pytest.mark.slow
def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """200 lists of 150 words whose characters depend on each other: of 200 intervals at 95 %, 181 or fewer are a
    one-in-a-thousand event (binomial), and so are 198 or more with a bootstrap's slight undercoverage."""
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(200):
        characters = torch.randint(2, 12, (150,), generator=generator).double()
        of_word = torch.randn(150, generator=generator, dtype=torch.float64) * 0.5  # shared by a word's characters
        losses = characters * (2.0 + of_word) + characters.sqrt() * torch.randn(150, generator=generator)
        [(low, high)] = intervals(losses.unsqueeze(1), characters, generator, draws=1000)
        covered += low <= 2.0 <= high
    assert 181 < covered < 199
