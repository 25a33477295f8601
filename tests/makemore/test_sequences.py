"""Words as sequences predict what the same words predict as contexts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from own_models import GRU
from torch import nn

from makemore.autograd_step import minibatch_loss
from makemore.contexts import build_examples, distinct_contexts
from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.sequences import build_sequences, sequences_of
from makemore.train import TrainConfig, generator_for, minibatches

WORDS = st.lists(st.text("abcé", min_size=1, max_size=7), min_size=1, max_size=20)
BLOCK_SIZES = [1, 2, 3, 8, 20]  # some shorter than every name, some longer
NAMES = read_words(GIVEN_NAMES)[::5]


def corpus_of(block_size: int) -> Corpus:
    return build_corpus(split_words(NAMES, "disjoint", 42), Alphabet.of(NAMES), block_size)


def plain_sequences(words: list[str], alphabet: Alphabet, block_size: int) -> tuple[list[list[int]], list[list[int]]]:
    """A word's first tokens with what follows each, then for each later character its window."""
    x, y = [], []
    for word in words:
        tokens = [0, *(alphabet.stoi[character] for character in word), 0]
        predicted = min(block_size, len(tokens) - 1)
        x.append([*tokens[:-1], *[0] * block_size][:block_size])
        y.append(tokens[1 : 1 + predicted] + [-100] * (block_size - predicted))
        for at in range(block_size + 1, len(tokens)):
            x.append(tokens[at - block_size : at])
            y.append([-100] * (block_size - 1) + [tokens[at]])
    return x, y


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 9))
def test_sequences_are_those_of_plain_loops(words: list[str], block_size: int) -> None:
    alphabet = Alphabet.of(words)
    sequences = build_sequences(build_examples(words, alphabet, block_size))
    index = torch.arange(len(sequences))
    assert (sequences.x(index).tolist(), sequences.y(index).tolist()) == plain_sequences(words, alphabet, block_size)


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 9))
def test_each_example_is_predicted_once_and_from_its_own_context(words: list[str], block_size: int) -> None:
    examples = build_examples(words, Alphabet.of(words), block_size)
    sequences = build_sequences(examples)
    index = torch.arange(len(sequences))
    example, x, y = sequences.example_of(index), sequences.x(index), sequences.y(index)
    predicted = example >= 0
    assert example[predicted].tolist() == list(range(len(examples)))
    assert torch.equal(y[predicted], examples.y(example[predicted]))
    contexts_as_sequences, position = sequences_of(examples.x(example[predicted]))
    for (row, column), tokens, read in zip(predicted.nonzero().tolist(), contexts_as_sequences, position, strict=True):
        assert column == read
        assert torch.equal(x[row, : column + 1], tokens[: column + 1])


def test_a_context_starts_at_its_boundary_unless_it_is_full() -> None:
    contexts = torch.tensor([[0, 0, 0], [0, 0, 5], [0, 5, 6], [5, 6, 7]])
    sequences, position = sequences_of(contexts)
    assert sequences.tolist() == [[0, 0, 0], [0, 5, 0], [0, 5, 6], [5, 6, 7]]
    assert position.tolist() == [0, 1, 2, 2]


@settings(deadline=None)  # a busy machine may take longer
@given(WORDS, st.integers(1, 9))
def test_all_contexts_are_read_from_the_fewest_sequences(words: list[str], block_size: int) -> None:
    alphabet = Alphabet.of(words)
    contexts = distinct_contexts(build_examples(words, alphabet, block_size))
    shared = contexts.sequences
    expected, position = sequences_of(contexts.x)
    sequence_of = torch.repeat_interleave(shared.offsets.diff())
    needed = set()
    for context, row, read in zip(shared.context.tolist(), sequence_of.tolist(), shared.position.tolist(), strict=True):
        assert read == position[context]
        assert torch.equal(shared.x[row, : read + 1], expected[context, : read + 1])
        needed.add(tuple(expected[context, : read + 1].tolist()))
    assert sorted(shared.context.tolist()) == list(range(len(contexts)))
    assert len(shared) == sum(not any(other[: len(tokens)] == tokens != other for other in needed) for tokens in needed)


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_evaluating_sequences_equals_evaluating_contexts_one_by_one(block_size: int) -> None:
    config, alphabet = GRU(block_size), Alphabet.of(NAMES)
    model = config.new(alphabet.vocab_size, seed=1).eval()
    dev = split_words(NAMES, "disjoint", 42).dev
    assert any(len(name) < block_size for name in dev) or block_size <= 3
    examples = build_examples(dev, alphabet, block_size)
    index = torch.arange(len(examples))
    with torch.no_grad():
        logits = config.next_logits(model, examples.x(index))
    losses = nn.functional.cross_entropy(logits, examples.y(index), reduction="none").double()
    assert config.mean_loss(model, distinct_contexts(examples)) == pytest.approx(losses.mean().item(), abs=1e-6)
    by_word, characters = config.word_losses(model, dev, alphabet)
    expected = torch.stack([part.sum() for part in losses.split([len(name) + 1 for name in dev])])
    torch.testing.assert_close(by_word, expected, rtol=0, atol=1e-5)
    assert characters.tolist() == [len(name) + 1 for name in dev]


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_all_training_sequences_together_have_the_loss_of_train(block_size: int) -> None:
    corpus, config = corpus_of(block_size), GRU(block_size)
    model = config.new(corpus.alphabet.vocab_size, seed=1).eval()
    sequences, everything = corpus.train_sequences, torch.arange(len(corpus.train_sequences))
    expected = config.mean_loss(model, corpus.train_contexts)
    with torch.no_grad():
        logits = model(sequences.x(everything))
        assert minibatch_loss(logits, sequences.y(everything)).item() == pytest.approx(expected, abs=1e-5)
        example = sequences.example_of(everything)
        y = torch.zeros_like(logits)
        y[example >= 0] = corpus.targets("distribution", 0.0)(corpus.train_contexts.index.long())
        assert minibatch_loss(logits, y).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("targets", ["distribution", "kneser_ney"])
def test_minibatches_of_distributions_are_those_of_the_contexts_of_the_same_sequences(targets: str) -> None:
    corpus, generator = corpus_of(4), generator_for(0, "batches")
    config = TrainConfig(8, 40, 1, "sampled", 0.8, "float32")
    [(x, y)] = minibatches(corpus, config, 40, generator, "cpu", every_position=True)
    config = TrainConfig(8, 40, 1, targets, 0.8, "float32")
    [(same_x, rows)] = minibatches(corpus, config, 40, generator_for(0, "batches"), "cpu", every_position=True)
    assert torch.equal(x, same_x)
    assert (x.shape, y.shape, rows.shape) == ((40, 8, 4), (40, 8, 4), (40, 8, 4, corpus.alphabet.vocab_size))
    assert not rows[y == -100].any()
    predicted = rows[y != -100]
    torch.testing.assert_close(predicted.sum(1), torch.ones(len(predicted)))
    assert bool((predicted.gather(1, y[y != -100].unsqueeze(1)) > 0).all())  # what follows has a probability
    start = corpus.train_contexts.x.long().tolist().index([0, 0, 0, 0])
    at_start = corpus.targets(targets, 0.8)(torch.tensor([start]))
    first = rows[x[..., 0] == 0][:, 0]
    torch.testing.assert_close(first, at_start.expand_as(first))
