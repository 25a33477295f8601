"""A model of one's own goes the way of the shipped ones, and a wrong one is told what is wrong."""

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from own_models import GRU, Feedforward
from torch import Tensor, nn

from makemore.contexts import build_examples
from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.diagnosis import examine
from makemore.lr_range import LrRange, NoRange, lr_range_test
from makemore.mlp import MLP, MLPConfig
from makemore.model import ModelConfig, ModelError
from makemore.ngram import NgramConfig, count_ngrams
from makemore.optimizer import SGD, AdamW
from makemore.sample import sample_words
from makemore.schedule import Constant, Cosine
from makemore.train import Diverged, Evaluation, InfiniteLoss, TrainConfig, TrainResult

NAMES = read_words(GIVEN_NAMES)[::10]
ALPHABET = Alphabet.of(NAMES)
SPLIT = split_words(NAMES, "disjoint", 42)
ADAMW = AdamW(weight_decay=0.01, beta1=0.9, beta2=0.99, epsilon=1e-8)
BOTH = [Feedforward(), GRU(), GRU(block_size=4)]  # the second GRU has words longer than its sequences


def corpus_of(config: ModelConfig) -> Corpus:
    return build_corpus(SPLIT, ALPHABET, config.block_size)


def fit(config: ModelConfig, targets: str, curve: list[Evaluation] | None = None) -> TrainResult:
    train_config = TrainConfig(48, 200, 4, targets, 0.8, "float32")
    return config.fit(corpus_of(config), ADAMW, Cosine(0.02, 0.1, 0.0), train_config, seed=0, curve=curve)


@pytest.mark.parametrize("targets", ["sampled", "distribution", "kneser_ney"])
@pytest.mark.parametrize("config", BOTH)
def test_an_own_model_learns_more_than_counted_bigrams(config: ModelConfig, targets: str) -> None:
    counted = NgramConfig(2, "additive", 0.1, 0.0)
    bigrams = count_ngrams(corpus_of(counted), counted).best_dev_loss
    curve: list[Evaluation] = []
    result = fit(config, targets, curve)
    assert result.best_dev_loss < bigrams - 0.02 < math.log(ALPHABET.vocab_size) - 0.5
    assert [point.step for point in curve] == [50, 100, 150, 200]
    assert result.best_dev_loss == min(point.dev_loss for point in curve)
    assert config.mean_loss(result.model, corpus_of(config).dev_contexts) == result.best_dev_loss
    assert result.parameters == config.parameters(ALPHABET.vocab_size)
    losses, characters = config.word_losses(result.model, SPLIT.dev, ALPHABET)
    assert float(losses.sum() / characters.sum()) == pytest.approx(result.best_dev_loss, abs=1e-6)


@pytest.mark.parametrize("config", BOTH)
def test_its_words_look_like_names_and_its_weights_can_be_read_back(config: ModelConfig) -> None:
    model = fit(config, "distribution").model
    words = sample_words(config, model, ALPHABET, 200, torch.Generator().manual_seed(0))
    lengths = [len(word) for word in words]
    assert 4 < sum(lengths) / len(lengths) < 8  # the shipped names have 6.1 characters on average
    restored = config.restore(ALPHABET.vocab_size, {name: value.clone() for name, value in model.state_dict().items()})
    assert not restored.training
    assert words == sample_words(config, restored, ALPHABET, 200, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [*BOTH, MLPConfig(3, 10, 20, 0.0)])
def test_a_new_module_follows_its_seed_and_leaves_the_global_random_state_as_it_was(config: ModelConfig) -> None:
    before = torch.get_rng_state()
    first = list(config.new(27, seed=1).parameters())
    torch.rand(3)
    again, other = (list(config.new(27, seed=seed).parameters()) for seed in (1, 2))
    torch.set_rng_state(before)
    config.new(27, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(weight, same) for weight, same in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_trainable_numbers_are_counted() -> None:
    config = Feedforward(block_size=2, embedding_size=3, hidden_neurons=4)
    assert config.parameters(5) == 5 * 3 + (6 * 4 + 4) + 2 * 4 + (4 * 5 + 5)


@pytest.mark.parametrize("config", [*BOTH, Feedforward(block_size=1), GRU(block_size=1), GRU(block_size=16)])
def test_a_right_model_passes_the_check(config: ModelConfig) -> None:
    before = torch.get_rng_state()
    config.check(27)
    config.check(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_shipped_models_need_no_check_and_are_model_configs() -> None:
    for config in (MLPConfig(3, 10, 20, 0.0), NgramConfig(3, "additive", 0.1, 0.0)):
        assert isinstance(config, ModelConfig)
        config.check(27)
    assert issubclass(InfiniteLoss, Diverged)


@dataclass(frozen=True)
class Mistaken(ModelConfig):
    """A model whose module a test makes."""

    make: Callable[[], object]
    block_size: int = 4

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        return self.make()  # type: ignore[return-value]


@dataclass(frozen=True)
class MistakenSequences(Mistaken):
    every_position: ClassVar[bool] = True


class Forward(nn.Module):
    """A module with an embedding that computes what a test asks for."""

    def __init__(self, compute: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(27, 27)
        self.compute = compute

    def forward(self, x: Tensor) -> object:
        return self.compute(self.embedding(x))


def no_module() -> object:
    raise RuntimeError("out of\nideas")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Mistaken(no_module), "Mistaken.build raised RuntimeError: out of ideas"),
        (Mistaken(lambda: [1]), "Mistaken.build returned an object of type list; it must return a torch.nn.Module"),
        (Mistaken(nn.Flatten), "the module that Mistaken.build returned has no trainable parameters"),
        (Mistaken(nn.Flatten, block_size=0), "Mistaken.block_size is 0; it must be an integer >= 1"),
        (
            Mistaken(lambda: nn.Linear(3, 3)),
            "the module of Mistaken raised RuntimeError: .* on a tensor of shape (2, 4) and torch.int64",
        ),
        (
            Mistaken(lambda: Forward(lambda hidden: (hidden, None))),
            "the module of Mistaken returned an object of type tuple; expected logits, a floating-point tensor of "
            "shape (2, 27)",
        ),
        (
            Mistaken(lambda: Forward(lambda hidden: hidden[:, -1, :26])),
            "the module of Mistaken returned a tensor of shape (2, 26) and torch.float32; expected logits, a "
            "floating-point tensor of shape (2, 27)",
        ),
        (
            Mistaken(lambda: Forward(lambda hidden: hidden)),
            "the module of Mistaken returned a tensor of shape (2, 4, 27) and torch.float32; expected logits, a "
            "floating-point tensor of shape (2, 27); for logits at every position, set every_position = True",
        ),
        (
            Mistaken(lambda: Forward(lambda hidden: hidden[:, -1].argmax(1, keepdim=True).expand(-1, 27))),
            "the module of Mistaken returned a tensor of shape (2, 27) and torch.int64; expected logits, a "
            "floating-point tensor of shape (2, 27)",
        ),
        (
            MistakenSequences(lambda: Forward(lambda hidden: hidden[:, -1])),
            "the module of MistakenSequences returned a tensor of shape (2, 27) and torch.float32; expected logits, a "
            "floating-point tensor of shape (2, 4, 27)",
        ),
        (
            MistakenSequences(lambda: Forward(lambda hidden: hidden.cumsum(1).roll(-1, 1))),
            "the module of MistakenSequences is not causal: its logits at position 0 depend on later tokens, .*",
        ),
        (
            MistakenSequences(
                lambda: Forward(lambda hidden: torch.cat([hidden[:, :2], hidden[:, 3:], hidden[:, 3:]], 1))
            ),
            "the module of MistakenSequences is not causal: its logits at position 2 depend on later tokens, .*",
        ),
        (
            GRU(bidirectional=True),
            "the module of GRU is not causal: its logits at position 0 depend on later tokens, .*",
        ),
    ],
)
def test_a_wrong_model_gets_one_line_that_says_what_was_expected(config: ModelConfig, message: str) -> None:
    with pytest.raises(ModelError) as error:
        config.check(27)
    start, _, end = message.partition(".*")
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(end)
    assert ".*" in message or str(error.value) == message
    assert "\n" not in str(error.value)


def test_a_head_that_starts_at_zero_does_not_hide_what_a_module_looks_at() -> None:
    @dataclass(frozen=True)
    class ZeroHead(GRU):
        def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
            module = super().build(vocab_size, generator)
            nn.init.zeros_(module.head.weight)  # type: ignore[union-attr,arg-type]
            return module

    ZeroHead().check(27)
    with pytest.raises(ModelError, match="is not causal"):
        ZeroHead(bidirectional=True).check(27)


def test_what_build_draws_from_its_generator_follows_the_seed() -> None:
    @dataclass(frozen=True)
    class Drawn(Feedforward):
        def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
            module = super().build(vocab_size, generator)
            nn.init.normal_(module[0].weight, generator=generator)  # type: ignore[index]
            return module

    first, again, other = (Drawn().new(27, seed)[0].weight for seed in (1, 1, 2))  # type: ignore[index]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("config", BOTH)
def test_a_range_test_finds_a_learning_rate(config: ModelConfig) -> None:
    train_config = TrainConfig(32, 1, 1, "sampled", 0.8, "float32")
    result = lr_range_test(corpus_of(config), config, ADAMW, train_config, LrRange(1e-4, 10.0, 100), seed=0)
    assert 1e-4 < result.search_low < result.suggestion < result.search_high < 10.0


def test_a_counted_model_has_no_learning_rate_and_reports_once() -> None:
    config, train_config = NgramConfig(2, "additive", 0.1, 0.0), TrainConfig(32, 100, 5, "sampled", 0.8, "float32")
    with pytest.raises(NoRange, match="this model is counted: it has no learning rate"):
        lr_range_test(corpus_of(config), config, ADAMW, train_config, LrRange(1e-4, 10.0, 100), seed=0)
    reports: list[tuple[int, float]] = []
    result = config.fit(
        corpus_of(config), SGD(0.0), Constant(0.1), train_config, seed=0, report=lambda *pair: reports.append(pair)
    )
    assert reports == [(1, result.best_dev_loss)]
    assert (config.evaluations(train_config), Feedforward().evaluations(train_config)) == (1, 5)
    state = {name: value.clone() for name, value in result.model.state_dict().items()}
    restored = config.restore(ALPHABET.vocab_size, state)
    assert config.mean_loss(restored, corpus_of(config).dev_contexts) == result.best_dev_loss
    with pytest.raises(TypeError, match="n-grams are counted"):
        config.new(ALPHABET.vocab_size, seed=0)


def test_a_diagnosis_names_only_keys_that_the_model_has() -> None:
    config = GRU()
    model = config.new(ALPHABET.vocab_size, seed=0).eval()
    signs = examine(config, model, corpus_of(config), dev_loss=3.0)
    assert signs.saturated == 0
    assert signs.train_loss == pytest.approx(math.log(ALPHABET.vocab_size), abs=0.2)
    assert "hidden_neurons" not in signs.overfitting_cure + signs.underfitting_cure


def test_the_mlp_shows_its_embedding_and_an_own_model_may() -> None:
    config = MLPConfig(3, 10, 20, 0.0)
    model = config.new(27, seed=0)
    assert isinstance(model, MLP)
    assert config.embedding(model) is model.C
    assert GRU().embedding(GRU().new(27, seed=0)) is None


def test_next_logits_of_contexts_are_the_modules_own() -> None:
    config = replace(Feedforward(), block_size=3)
    model = config.new(ALPHABET.vocab_size, seed=0).eval()
    x = build_examples(["emma"], ALPHABET, 3).x(torch.arange(5))
    assert torch.equal(config.next_logits(model, x), model(x))


def test_importing_the_package_does_not_load_torch() -> None:
    code = """
import sys
import makemore
before = "torch" in sys.modules
from makemore import ModelConfig
print(before, "torch" in sys.modules, ModelConfig.__module__)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "True", "makemore.model"]
