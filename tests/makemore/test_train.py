import math

import pytest
import torch
from torch.nn import functional as F

from makemore.contexts import DistinctContexts
from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.evaluate import mean_loss
from makemore.mlp import MLP, MLPConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.schedule import Constant, Cosine
from makemore.train import (
    Diverged,
    Evaluation,
    TrainConfig,
    TrainResult,
    evaluation_steps,
    generator_for,
    minibatches,
    train,
)

MODEL = MLPConfig(block_size=2, embedding_size=4, hidden_neurons=16, dropout=0.1)
ADAMW = AdamW(weight_decay=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    words = read_words(GIVEN_NAMES)[::5]
    return build_corpus(split_words(words, "disjoint", 42), Alphabet.of(words), 2)


def run(
    corpus: Corpus,
    seed: int = 0,
    steps: int = 60,
    evaluations: int = 3,
    targets: str = "distribution",
    model: MLPConfig = MODEL,
    optimizer: Optimizer = ADAMW,
    lr: float = 0.01,
) -> TrainResult:
    config = TrainConfig(
        batch_size=16, steps=steps, evaluations=evaluations, targets=targets, discount=0.8, precision="auto"
    )
    return train(corpus, model, optimizer, Cosine(lr, 0.1, 0.0), config, seed)


def test_the_same_seed_gives_bitwise_the_same_weights_and_another_seed_others(corpus: Corpus) -> None:
    first, again, other = run(corpus, seed=3), run(corpus, seed=3), run(corpus, seed=4)
    for name, weight in first.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])
        assert not torch.equal(weight, other.model.state_dict()[name])


@pytest.mark.parametrize("targets", ["sampled", "distribution", "kneser_ney"])
@pytest.mark.parametrize(("optimizer", "lr"), [(ADAMW, 0.01), (SGD(weight_decay=0.0), 0.3)])
def test_training_lowers_the_dev_loss(corpus: Corpus, targets: str, optimizer: Optimizer, lr: float) -> None:
    result = run(corpus, steps=600, targets=targets, optimizer=optimizer, lr=lr)
    assert result.best_dev_loss < math.log(corpus.alphabet.vocab_size) - 0.2


def test_reports_come_at_the_evaluation_points_and_the_best_weights_are_kept(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, seen = iter([3.0, 2.5, 2.2, 2.2, 2.4, 2.3, 2.6]), []

    def loss_that_rises_again(config: MLPConfig, model: MLP, contexts: DistinctContexts) -> float:
        seen.append(model.W1.detach().clone())
        return next(losses)

    monkeypatch.setattr(MLPConfig, "mean_loss", loss_that_rises_again)
    reports: list[tuple[int, float]] = []
    curve: list[Evaluation] = []
    config = TrainConfig(batch_size=4, steps=100, evaluations=7, targets="sampled", discount=0.8, precision="auto")
    result = train(
        corpus, MODEL, ADAMW, Constant(0.01), config, 0, report=lambda *pair: reports.append(pair), curve=curve
    )
    assert [step for step, _ in reports] == evaluation_steps(config) == [14, 29, 43, 57, 71, 86, 100]
    assert reports == [(point.step, point.dev_loss) for point in curve]
    assert (result.best_step, result.best_dev_loss) == (43, 2.2)
    assert torch.equal(result.model.W1, seen[2])
    assert not torch.equal(result.model.W1, seen[3])


def test_the_kept_weights_have_the_reported_loss(corpus: Corpus) -> None:
    result = run(corpus)
    assert mean_loss(result.model, corpus.dev_contexts) == result.best_dev_loss


def test_what_report_raises_ends_the_run_and_the_curve_is_kept(corpus: Corpus) -> None:
    class Enough(Exception):
        pass

    def report(step: int, dev_loss: float) -> None:
        raise Enough

    curve: list[Evaluation] = []
    config = TrainConfig(batch_size=4, steps=100, evaluations=5, targets="sampled", discount=0.8, precision="auto")
    with pytest.raises(Enough):
        train(corpus, MODEL, ADAMW, Constant(0.01), config, 0, report=report, curve=curve)
    assert [point.step for point in curve] == [20]


@pytest.mark.parametrize("lr", [1e3, 1e30, 1e38])
def test_a_loss_far_above_guessing_or_not_finite_is_a_divergence(corpus: Corpus, lr: float) -> None:
    config = TrainConfig(batch_size=4, steps=50, evaluations=1, targets="sampled", discount=0.8, precision="auto")
    with pytest.raises(Diverged, match=r"at step 50 \(limit 33\); try a smaller schedule\.lr"):
        train(corpus, MODEL, SGD(0.0), Constant(lr), config, 0)


def test_both_targets_have_the_same_expected_gradient(corpus: Corpus) -> None:
    """All examples with their own next character, or each with its context's distribution: one and the same loss."""
    model = MLP(MODEL, corpus.alphabet.vocab_size, generator_for(0, "weights"))
    everything = torch.arange(len(corpus.train))
    logits = model(corpus.train.x(everything))
    sampled = F.cross_entropy(logits, corpus.train.y(everything))
    contexts = corpus.train_contexts.index.long()
    distribution = F.cross_entropy(logits, corpus.targets("distribution", 0.0)(contexts))
    assert sampled.item() == pytest.approx(distribution.item(), abs=1e-5)


def test_minibatches_do_not_depend_on_how_many_steps_are_drawn_at_once(corpus: Corpus) -> None:
    config = TrainConfig(batch_size=8, steps=40, evaluations=1, targets="sampled", discount=0.8, precision="auto")
    whole = torch.cat([x for x, _ in minibatches(corpus, config, 40, generator_for(0, "batches"), "cpu")])
    generator = generator_for(0, "batches")
    parts = [x for steps in (13, 27) for x, _ in minibatches(corpus, config, steps, generator, "cpu")]
    assert torch.equal(whole, torch.cat(parts))


def test_mean_loss_counts_every_example_once(corpus: Corpus) -> None:
    model = run(corpus).model
    words = read_words(GIVEN_NAMES)[::5]
    dev = split_words(words, "disjoint", 42).dev
    losses = []
    for word in dev:
        context = [0, 0]
        for character in word + ".":
            token = corpus.alphabet.stoi[character]
            losses.append(-F.log_softmax(model(torch.tensor([context])), dim=1)[0, token].item())
            context = [context[1], token]
    assert mean_loss(model, corpus.dev_contexts) == pytest.approx(sum(losses) / len(losses), abs=1e-6)


def test_a_run_leaves_the_number_of_threads_as_it_was(corpus: Corpus) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(corpus, steps=2, evaluations=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
