import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, Split, read_words, split_words
from makemore.evaluate import mean_loss
from makemore.limits import LimitError
from makemore.mlp import MLPConfig
from makemore.ngram import Ngram, NgramConfig, count_ngrams
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.sample import sample_words
from makemore.schedule import Constant, Cosine
from makemore.train import Evaluation, InfiniteLoss, TrainConfig, TrainResult, train

WORDS = st.lists(st.text("abcé", min_size=1, max_size=6), min_size=1, max_size=20)
ORDERS = range(1, 7)


def pairs(words: list[str], order: int) -> list[tuple[str, str]]:
    """Context and next character of every example."""
    examples = []
    for word in words:
        text = "." * order + word + "."
        examples += [(text[i - order + 1 : i], text[i]) for i in range(order, len(text))]
    return examples


class PlainCounts:
    """Additive smoothing with dictionaries."""

    def __init__(self, words: list[str], order: int) -> None:
        self.followed = Counter(pairs(words, order))
        self.seen = Counter(context for context, _ in pairs(words, order))

    def probability(self, context: str, character: str, smoothing: float, vocab_size: int) -> float:
        below = self.seen[context] + smoothing * vocab_size
        return (self.followed[context, character] + smoothing) / below if below else 1 / vocab_size


def corpus_of(split: Split, alphabet: Alphabet, order: int) -> Corpus:
    return build_corpus(split, alphabet, max(1, order - 1))


def split_of(words: list[str]) -> Split:
    return Split(words, words, "disjoint", 0, "", "")


@pytest.fixture(scope="module")
def names(names_file: Path) -> tuple[Split, Alphabet]:
    words = read_words(names_file)
    return split_words(words, "lecture", 42), Alphabet.of(words)


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, WORDS, st.sampled_from(ORDERS), st.sampled_from([0.0, 0.5, 2.0]))
def test_additive_smoothing_is_that_of_plain_loops_for_any_context(
    words: list[str], others: list[str], order: int, smoothing: float
) -> None:
    alphabet = Alphabet.of("abcé")
    config = NgramConfig(order, "additive", smoothing, 0.0)
    model = Ngram.fit(config, corpus_of(split_of(words), alphabet, order).train_contexts)
    plain = PlainCounts(words, order)
    contexts = sorted({context for context, _ in pairs(others, order)})
    padded = [[alphabet.stoi[c] for c in context.rjust(config.block_size, "a")] for context in contexts]
    for context, row in zip(contexts, model(torch.tensor(padded)).exp().tolist(), strict=True):
        expected = [plain.probability(context, character, smoothing, 5) for character in alphabet.itos]
        assert row == pytest.approx(expected, abs=1e-6)
        assert sum(row) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_additive_counts_of_the_lectures_names_have_the_loss_of_a_plain_loop(
    names: tuple[Split, Alphabet], order: int
) -> None:
    split, alphabet = names
    plain = PlainCounts(split.train, order)
    losses = [-math.log(plain.probability(*pair, 0.1, alphabet.vocab_size)) for pair in pairs(split.dev, order)]
    result = count_ngrams(corpus_of(split, alphabet, order), NgramConfig(order, "additive", 0.1, 0.0))
    assert result.best_dev_loss == pytest.approx(sum(losses) / len(losses), abs=5e-5)
    kept = set(pairs(split.train, order)) if order > 1 else set()
    assert result.parameters == alphabet.vocab_size + len(kept)


def test_kneser_ney_of_order_6_reaches_1_985_on_the_lectures_names(names: tuple[Split, Alphabet]) -> None:
    curve: list[Evaluation] = []
    result = count_ngrams(corpus_of(*names, 6), NgramConfig(6, "kneser_ney", 0.0, 0.9), curve=curve)
    assert 1.98 < result.best_dev_loss <= 1.985
    [point] = curve
    assert (point.step, point.dev_loss, point.lr) == (1, result.best_dev_loss, None)
    assert point.train_loss < 1.7  # it has seen these words


@pytest.mark.parametrize("estimator", ["additive", "kneser_ney"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_context_has_probabilities_that_sum_to_one(order: int, estimator: str) -> None:
    words = [*read_words(GIVEN_NAMES)[::20], *(chr(character) for character in range(0x4E00, 0x4E00 + 300))]
    alphabet = Alphabet.of(words)
    assert alphabet.vocab_size > 256
    corpus = corpus_of(split_of(words), alphabet, order)
    model = Ngram.fit(NgramConfig(order, estimator, 0.3, 0.7), corpus.train_contexts)
    anything = torch.randint(alphabet.vocab_size, (500, max(1, order - 1)), generator=torch.Generator().manual_seed(1))
    for x in (anything, corpus.train_contexts.x[:500].long()):
        rows = model(x).exp()
        assert float(rows.min()) > 0
        torch.testing.assert_close(rows.sum(1), torch.ones(len(x)), rtol=0, atol=1e-5)


def test_without_smoothing_it_samples_what_it_has_seen_and_nothing_else() -> None:
    words = ["ab", "abc", "cab"]
    alphabet = Alphabet.of(words)
    config = NgramConfig(3, "additive", 0.0, 0.0)
    model = Ngram.fit(config, corpus_of(split_of(words), alphabet, 3).train_contexts)
    sampled = sample_words(config, model, alphabet, 3000, torch.Generator().manual_seed(1))
    assert set(sampled) == {"ab", "abc", "cab", "cabc"}
    # Two of three words begin with a, and one of three "ab" goes on: standard deviation 27 of 3000.
    assert sampled.count("ab") == pytest.approx(3000 * 2 / 3 * 2 / 3, abs=110)
    assert sampled == sample_words(config, model, alphabet, 3000, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("estimator", "key"), [("additive", "smoothing"), ("kneser_ney", "discount")])
def test_a_probability_of_zero_is_an_infinite_loss_that_says_so(estimator: str, key: str) -> None:
    words = read_words(GIVEN_NAMES)
    split, alphabet = split_words(words, "disjoint", 42), Alphabet.of(words)
    plain = PlainCounts(split.train, 3)
    asked = pairs(split.dev, 3)
    zeros = sum(plain.seen[pair[0]] > 0 and plain.followed[pair] == 0 for pair in asked)
    reported: list[float] = []
    config = NgramConfig(3, estimator, smoothing=0.0, discount=0.0)
    with pytest.raises(InfiniteLoss) as error:
        count_ngrams(corpus_of(split, alphabet, 3), config, lambda step, dev_loss: reported.append(dev_loss))
    start, _, end = str(error.value).partition(" of ")
    if estimator == "additive":  # the other estimator asks shorter contexts where a context was not seen
        assert start == f"the dev loss is infinite: {zeros}"
    assert end == f"{len(asked)} dev characters have probability zero, as model.{key} is 0; set model.{key} above 0"
    assert reported == []


@pytest.mark.parametrize("estimator", ["additive", "kneser_ney"])
def test_at_order_0_all_characters_are_equally_likely(estimator: str) -> None:
    words = ["ab", "abc", "cab"]
    result = count_ngrams(corpus_of(split_of(words), Alphabet.of(words), 0), NgramConfig(0, estimator, 0.1, 0.9))
    assert result.best_dev_loss == pytest.approx(math.log(4))
    assert result.parameters == 0


def test_limits_are_named() -> None:
    for values, message in (
        ((7, "additive", 0.1, 0.9), "order is 7; it must be >= 0 and <= 6"),
        ((-1, "additive", 0.1, 0.9), "order is -1"),
        ((3, "laplace", 0.1, 0.9), "estimator is laplace; it must be additive or kneser_ney"),
        ((3, "additive", -0.1, 0.9), "smoothing is -0.1; it must be >= 0"),
        ((3, "kneser_ney", 0.1, 1.1), "discount is 1.1; it must be >= 0 and <= 1"),
    ):
        with pytest.raises(LimitError, match=message):
            NgramConfig(*values)


def neural_bigram(corpus: Corpus, optimizer: Optimizer, lr: float) -> TrainResult:
    """No hidden layer, one character of context, an embedding as wide as the vocabulary: a table of logits."""
    model = MLPConfig(1, corpus.alphabet.vocab_size, hidden_neurons=0, dropout=0.0)
    schedule = Constant(lr) if isinstance(optimizer, SGD) else Cosine(lr, 0.05, 0.0)
    config = TrainConfig(256, 1000, 1, "distribution", discount=0.0, precision="float32")
    return train(corpus, model, optimizer, schedule, config, seed=0)


@pytest.fixture(scope="module")
def bigrams() -> Corpus:
    words = read_words(GIVEN_NAMES)
    return corpus_of(split_words(words, "disjoint", 42), Alphabet.of(words), 2)


def test_without_a_hidden_layer_the_model_learns_the_counted_bigram(bigrams: Corpus) -> None:
    counted = count_ngrams(bigrams, NgramConfig(2, "additive", 0.1, 0.0))
    learned = neural_bigram(bigrams, AdamW(0.0, 0.9, 0.999, 1e-8), lr=0.05)
    assert learned.best_dev_loss == pytest.approx(counted.best_dev_loss, abs=0.005)


def test_weight_penalty_and_smoothing_both_draw_towards_the_uniform_distribution(bigrams: Corpus) -> None:
    smoothed = [Ngram.fit(NgramConfig(2, "additive", s, 0.0), bigrams.train_contexts) for s in (0, 10, 100, 1e3, 1e6)]
    decayed = [neural_bigram(bigrams, AdamW(w, 0.9, 0.999, 1e-8), 0.05).model for w in (0.0, 0.3, 3.0, 10.0, 18.0)]
    penalised = [neural_bigram(bigrams, SGD(w), 1.0).model for w in (0.0, 0.003, 0.01, 0.03, 0.3)]
    uniform = math.log(bigrams.alphabet.vocab_size)
    for models in (smoothed, decayed, penalised):
        losses = [mean_loss(model, bigrams.train_contexts) for model in models]
        assert all(after - before > 0.001 for before, after in pairwise(losses))
        assert losses[0] == pytest.approx(mean_loss(smoothed[0], bigrams.train_contexts), abs=0.005)
        assert uniform - 0.1 < losses[-1] < uniform
