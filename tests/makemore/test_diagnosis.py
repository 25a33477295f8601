"""Each rule on a run that was made to show it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.diagnosis import Signs, diagnose, examine
from makemore.evaluate import mean_loss
from makemore.mlp import MLP, MLPConfig
from makemore.model import ModelConfig
from makemore.ngram import NgramConfig, count_ngrams
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.schedule import Constant, Cosine, Schedule
from makemore.train import Evaluation, TrainConfig, TrainResult, train

WORDS = read_words(GIVEN_NAMES)
ALPHABET = Alphabet.of(WORDS)
SPLIT = split_words(WORDS, "disjoint", 0)
LECTURE = MLPConfig(block_size=3, embedding_size=10, hidden_neurons=200, dropout=0.0)


def adamw(weight_decay: float = 0.01) -> AdamW:
    return AdamW(weight_decay, beta1=0.9, beta2=0.99, epsilon=1e-8)


def cosine(lr: float) -> Cosine:
    return Cosine(lr, warmup=0.1, final_factor=0.0)


def run(
    model: MLPConfig = LECTURE,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    **config: object,
) -> tuple[TrainResult, list[Evaluation], Corpus]:
    corpus = build_corpus(SPLIT, ALPHABET, model.block_size)
    defaults = TrainConfig(64, 2000, 10, "distribution", 0.8, "float32")
    curve: list[Evaluation] = []
    training = replace(defaults, **config)
    result = train(corpus, model, optimizer or adamw(), schedule or cosine(5e-3), training, seed=0, curve=curve)
    return result, curve, corpus


def findings(
    result: TrainResult, curve: list[Evaluation], corpus: Corpus, model: ModelConfig = LECTURE
) -> dict[str, str]:
    signs = examine(model, result.model, corpus, result.best_dev_loss)
    return {finding.name: finding.text for finding in diagnose(curve, signs)}


def test_nothing_stands_out_in_a_run_with_the_defaults() -> None:
    assert findings(*run()) == {}


def test_a_model_that_is_too_small_underfits() -> None:
    small = MLPConfig(block_size=2, embedding_size=2, hidden_neurons=10, dropout=0.0)
    observed = findings(*run(small, schedule=cosine(1e-2), steps=4000))
    assert list(observed) == ["underfitting"]
    assert "model.hidden_neurons" in observed["underfitting"]


def test_a_model_without_weight_decay_overfits_and_its_best_step_is_named() -> None:
    large = MLPConfig(block_size=6, embedding_size=32, hidden_neurons=300, dropout=0.0)
    result, curve, corpus = run(large, adamw(0.0), Constant(5e-3), batch_size=128)
    observed = findings(result, curve, corpus)
    assert f"after step {result.best_step} while" in observed["overfitting"]
    assert result.best_step < 2000


def test_a_learning_rate_that_is_too_low_is_told_from_one_that_is_too_high() -> None:
    assert list(findings(*run(schedule=cosine(1e-4)))) == ["learning rate too low"]
    assert list(findings(*run(schedule=Constant(1e-4)))) == ["learning rate too low"]
    assert "went up" in findings(*run(schedule=Constant(3e-2)))["learning rate too high"]
    assert "the smaller the rate became" in findings(*run(schedule=cosine(5e-2)))["learning rate too high"]


def test_a_huge_learning_rate_saturates_the_tanh_layer() -> None:
    observed = findings(*run(replace(LECTURE, hidden_neurons=50), adamw(0.0), cosine(0.3)))
    assert observed["saturated"].startswith("100%")


def test_a_minibatch_of_two_is_too_small() -> None:
    observed = findings(*run(optimizer=SGD(0.0), schedule=Constant(0.05), batch_size=2, targets="sampled"))
    assert "train.batch_size" in observed["batch too small"]


def test_counts_get_advice_that_they_can_follow() -> None:
    corpus = build_corpus(SPLIT, ALPHABET, 5)
    curve: list[Evaluation] = []
    config = NgramConfig(6, "additive", 0.1, 0.8)
    observed = findings(count_ngrams(corpus, config, curve=curve), curve, corpus, config)
    assert "model.order" in observed["overfitting"]
    assert "weight_decay" not in observed["overfitting"]


def saturated(model: MLP, x: Tensor) -> float:
    hidden = torch.tanh(model.C[x.long()].flatten(1) @ model.W1 + model.b1)
    return float((hidden.abs() > 0.99).double().mean())


def test_the_signs_are_what_a_plain_computation_finds() -> None:
    result, _, corpus = run(steps=300)
    signs = examine(LECTURE, result.model, corpus, result.best_dev_loss)
    assert len(corpus.train_sample.index) == len(corpus.dev_contexts.index)
    assert signs.train_loss == pytest.approx(mean_loss(result.model, corpus.train_contexts), abs=0.03)
    assert signs.gap == signs.dev_loss - signs.train_loss
    some = corpus.dev_contexts.x[:: len(corpus.dev_contexts) // 500]
    assert signs.saturated == pytest.approx(saturated(result.model, some), abs=1e-6)


def test_some_contexts_show_how_saturated_all_are() -> None:
    result, _, corpus = run(replace(LECTURE, initialization="normal"), steps=300)
    everywhere = saturated(result.model, corpus.dev_contexts.x)
    assert 0.5 < everywhere < 0.7
    assert examine(LECTURE, result.model, corpus, result.best_dev_loss).saturated == pytest.approx(everywhere, abs=0.01)


def test_a_run_that_was_evaluated_once_is_diagnosed_too() -> None:
    assert diagnose([Evaluation(10, 2.5, 2.51, 0.1, 0.1)], Signs(2.5, 2.51, 0.1, 3.3))[0].name == "underfitting"


def test_a_model_that_is_worse_than_guessing_is_told_so() -> None:
    curve = [Evaluation(100, 1.0, 3.4, 0.1, 0.1), Evaluation(200, 0.5, 4.0, 0.1, 0.1)]
    observed = {finding.name: finding.text for finding in diagnose(curve, Signs(0.9, 3.4, 0.1, 3.3))}
    assert "above the 3.300 of equally likely characters" in observed["worse than guessing"]
    assert "after step 100, the first evaluation, while" in observed["overfitting"]
