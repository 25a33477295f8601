import pytest
import torch
from own_models import Feedforward
from torch import nn

from makemore.contexts import DistinctContexts, build_examples, distinct_contexts
from makemore.data import GIVEN_NAMES, Alphabet, read_words
from makemore.evaluate import sum_by_word, word_losses
from makemore.mlp import MLP, MLPConfig
from makemore.ngram import Ngram, NgramConfig


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


@pytest.mark.parametrize("config", [MLPConfig(3, 4, 16, 0.0), NgramConfig(4, "kneser_ney", 0.0, 0.8)])
def test_losses_of_words_are_those_of_their_examples_one_by_one(config: MLPConfig | NgramConfig) -> None:
    names = read_words(GIVEN_NAMES)[::10]
    words = [*names, *names[:50]]  # some words twice
    alphabet = Alphabet.of(words)
    examples = build_examples(words, alphabet, config.block_size)
    if isinstance(config, NgramConfig):
        model: nn.Module = Ngram.fit(config, distinct_contexts(examples))
    else:
        model = config.new(alphabet.vocab_size, seed=0)
    index = torch.arange(len(examples))
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model(examples.x(index)), examples.y(index), reduction="none").double()
    for by_word in (
        word_losses(model, words, alphabet, config.block_size),
        config.word_losses(model, words, alphabet),
    ):
        torch.testing.assert_close(by_word, sum_by_word(losses, words), rtol=0, atol=1e-6)


def test_evaluation_is_without_dropout_and_leaves_the_mode_of_the_module_as_it_was() -> None:
    config, alphabet = Feedforward(dropout=0.9), Alphabet.of("abc")
    model = config.new(alphabet.vocab_size, seed=0)
    contexts = distinct_contexts(build_examples(["abca", "b", "cc"], alphabet, config.block_size))
    for training in (True, False):
        model.train(training)
        assert config.mean_loss(model, contexts) == config.mean_loss(model, contexts)
        assert all(module.training == training for module in model.modules())


def test_a_split_without_examples_has_no_mean_loss() -> None:
    empty = DistinctContexts(torch.zeros(0, 3), torch.zeros(1), torch.zeros(0), torch.zeros(0), torch.zeros(0), 4)
    with pytest.raises(ValueError, match="the split has no examples"):
        Feedforward().mean_loss(Feedforward().new(4, seed=0), empty)
