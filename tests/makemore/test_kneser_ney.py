import math
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore.contexts import build_examples, distinct_contexts
from makemore.data import Alphabet, read_words, split_words
from makemore.kneser_ney import KneserNey
from makemore.ngram import Ngram, NgramConfig

WORDS = st.lists(st.text("abcé", min_size=1, max_size=6), min_size=1, max_size=15)


class PlainKneserNey:
    """The formula with dictionaries, for any context."""

    def __init__(self, words: list[str], block_size: int, discount: float, alphabet: str) -> None:
        self.discount, self.alphabet = discount, alphabet
        raw: Counter[str] = Counter()
        for word in words:
            text = "." * block_size + word + "."
            raw.update(text[end - block_size : end + 1] for end in range(block_size, len(text)))
        self.counts: list[defaultdict[str, Counter[str]]] = []
        for _ in range(block_size + 1):
            order: defaultdict[str, Counter[str]] = defaultdict(Counter)
            for gram, count in raw.items():
                order[gram[:-1]][gram[-1]] += count
            self.counts.append(order)
            raw = Counter(gram[1:] for gram in raw)  # how many different characters precede the rest

    def probability(self, context: str, character: str, order: int = 0) -> float:
        if order == len(self.counts):
            return 1 / len(self.alphabet)
        counts = self.counts[order][context]
        lower = self.probability(context[1:], character, order + 1)
        total = sum(counts.values())
        if total == 0:
            return lower
        above = sum(max(count - self.discount, 0) for count in counts.values())
        return max(counts[character] - self.discount, 0) / total + (1 - above / total) * lower


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 4), st.sampled_from([0.3, 0.8, 1.0]))
def test_the_sparse_tables_give_what_the_formula_gives(words: list[str], block_size: int, discount: float) -> None:
    alphabet = Alphabet.of(words)
    contexts = distinct_contexts(build_examples(words, alphabet, block_size))
    rows = KneserNey(contexts, discount).targets(torch.arange(len(contexts)))
    plain = PlainKneserNey(words, block_size, discount, alphabet.itos)
    for tokens, row in zip(contexts.x.tolist(), rows.tolist(), strict=True):
        context = "".join(alphabet.itos[token] for token in tokens)
        expected = [plain.probability(context, character) for character in alphabet.itos]
        assert row == pytest.approx(expected, abs=1e-5)
        assert sum(row) == pytest.approx(1, abs=1e-5)


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, WORDS, st.integers(2, 6), st.sampled_from([0.0, 0.3, 1.0]))
def test_the_model_gives_what_the_formula_gives_for_any_context(
    words: list[str], others: list[str], order: int, discount: float
) -> None:
    alphabet = Alphabet("abcé")
    train, asked = (distinct_contexts(build_examples(part, alphabet, order - 1)) for part in (words, others))
    rows = Ngram.fit(NgramConfig(order, "kneser_ney", 0.0, discount), train)(asked.x.long()).exp()
    plain = PlainKneserNey(words, order - 1, discount, alphabet.itos)
    for tokens, row in zip(asked.x.tolist(), rows.tolist(), strict=True):
        context = "".join(alphabet.itos[token] for token in tokens)
        expected = [plain.probability(context, character) for character in alphabet.itos]
        assert row == pytest.approx(expected, abs=1e-5)
        assert [p == 0 for p in row] == [p == 0 for p in expected]  # an infinite loss, and not a large one


def test_rows_come_in_the_order_they_are_asked_for() -> None:
    words = ["ab", "ac", "cab"]
    contexts = distinct_contexts(build_examples(words, Alphabet.of(words), 2))
    model = KneserNey(contexts, 0.5)
    everything = model.targets(torch.arange(len(contexts)))
    torch.testing.assert_close(model.targets(torch.tensor([2, 0, 2])), everything[[2, 0, 2]])


def test_no_discount_leaves_the_empirical_distribution() -> None:
    words = ["ab", "ac", "ab"]
    contexts = distinct_contexts(build_examples(words, Alphabet.of(words), 2))
    index = torch.arange(len(contexts))
    torch.testing.assert_close(KneserNey(contexts, 0.0).targets(index), contexts.targets(index))
    assert math.isclose(float(KneserNey(contexts, 0.7).targets(index).sum()), len(contexts), rel_tol=1e-5)


def test_order_6_reaches_the_known_dev_loss_of_the_lectures_names(names_file: Path) -> None:
    words = read_words(names_file)
    split = split_words(words, "lecture", 42)
    plain = PlainKneserNey(split.train, 5, 0.9, Alphabet.of(words).itos)
    padded = ["....." + word + "." for word in split.dev]
    losses = [
        -math.log(plain.probability(text[end - 5 : end], text[end])) for text in padded for end in range(5, len(text))
    ]
    assert sum(losses) / len(losses) == pytest.approx(1.984, abs=0.001)
    # The package's tables are that model's: at every hundredth of the contexts that train has.
    contexts = distinct_contexts(build_examples(split.train, Alphabet.of(words), 5))
    index = torch.arange(0, len(contexts), 100)
    rows = KneserNey(contexts, 0.9).targets(index)
    for tokens, row in zip(contexts.x[index].tolist(), rows.tolist(), strict=True):
        context = "".join(plain.alphabet[token] for token in tokens)
        assert row == pytest.approx([plain.probability(context, character) for character in plain.alphabet], abs=1e-5)
