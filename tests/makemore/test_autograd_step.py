"""Training steps of any module: reproducible, and without a trace in the caller's random state."""

import pytest
import torch
from own_models import GRU, Feedforward
from torch import Tensor, nn
from torch.nn import functional as F

from makemore.autograd_step import minibatch_loss
from makemore.contexts import DistinctContexts
from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.model import ModelConfig
from makemore.optimizer import SGD, AdamW
from makemore.schedule import Constant
from makemore.train import Stepper, TrainConfig, TrainResult, generator_for, minibatches

ADAMW = AdamW(weight_decay=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8)
NAMES = read_words(GIVEN_NAMES)[::20]
VOCAB_SIZE = Alphabet.of(NAMES).vocab_size
BOTH = [Feedforward(dropout=0.5), GRU(dropout=0.5)]


def corpus_of(config: ModelConfig) -> Corpus:
    return build_corpus(split_words(NAMES, "disjoint", 42), Alphabet.of(NAMES), config.block_size)


def fit(config: ModelConfig, seed: int = 0, optimizer: AdamW | SGD = ADAMW) -> TrainResult:
    train_config = TrainConfig(16, 20, 2, "sampled", 0.8, "float32")
    return config.fit(corpus_of(config), optimizer, Constant(0.01), train_config, seed)


def new_step(config: ModelConfig) -> tuple[nn.Module, Stepper, Tensor, Tensor]:
    """A module, what takes its steps, and twenty minibatches."""
    train_config = TrainConfig(16, 20, 1, "sampled", 0.8, "float32")
    model = config.new(VOCAB_SIZE, seed=0)
    step = config.make_step(model, ADAMW, train_config, seed=0, device="cpu")
    batches = generator_for(0, "batches")
    [(x, y)] = minibatches(corpus_of(config), train_config, 20, batches, "cpu", config.every_position)
    return model, step, x, y


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("config", BOTH)
def test_the_same_seed_gives_bitwise_the_same_weights_whatever_the_global_random_state(config: ModelConfig) -> None:
    torch.manual_seed(1)
    first = fit(config, seed=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = fit(config, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_state(first.model, again.model)
    other = fit(config, seed=4)
    assert all(
        not torch.equal(weight, other_weight)
        for weight, other_weight in zip(first.model.parameters(), other.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("config", BOTH)
def test_what_happens_between_two_calls_does_not_change_the_weights(config: ModelConfig) -> None:
    corpus = corpus_of(config)
    whole, whole_step, x, y = new_step(config)
    whole_losses = whole_step.run(x, y, [0.01] * 20)
    parts, parts_step, _, _ = new_step(config)
    losses = [parts_step.run(x[:7], y[:7], [0.01] * 7)]
    config.mean_loss(parts, corpus.dev_contexts)
    torch.rand(5)  # a report that draws random numbers
    losses.append(parts_step.run(x[7:], y[7:], [0.01] * 13))
    assert torch.equal(torch.cat(losses), whole_losses)
    assert_same_state(whole, parts)


def test_dropout_is_active_in_training_and_drawn_anew_at_each_step() -> None:
    config = Feedforward(dropout=0.5)
    model, step, x, y = new_step(config)
    model.eval()  # as it may be when the steps are taken up again
    same_x, same_y = x[:1].expand(3, -1, -1), y[:1].expand(3, -1)
    losses = step.run(same_x, same_y, [0.0] * 3)  # at a rate of zero the weights stay: only the masks differ
    assert len(set(losses.tolist())) == 3


def test_the_module_trains_in_training_mode_and_is_evaluated_and_returned_in_evaluation_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[tuple[str, bool]] = []
    forward = nn.Sequential.forward

    def record(self: nn.Sequential, x: Tensor) -> Tensor:
        modes.append(("step" if torch.is_grad_enabled() else "evaluation", self.training))
        return forward(self, x)  # type: ignore[no-any-return]

    monkeypatch.setattr(nn.Sequential, "forward", record)
    assert not fit(Feedforward()).model.training
    assert set(modes) == {("step", True), ("evaluation", False)}


def test_the_best_weights_come_back_with_their_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    config, losses = Feedforward(), iter([2.5, 2.2, 2.4])
    seen: list[dict[str, Tensor]] = []

    def loss_that_rises_again(self: Feedforward, model: nn.Module, contexts: DistinctContexts) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(losses)

    monkeypatch.setattr(Feedforward, "mean_loss", loss_that_rises_again)
    train_config = TrainConfig(16, 30, 3, "sampled", 0.8, "float32")
    result = config.fit(corpus_of(config), ADAMW, Constant(0.01), train_config, seed=0)
    state = result.model.state_dict()
    assert state["3.num_batches_tracked"] == 20  # of the BatchNorm layer
    for name, value in state.items():
        assert torch.equal(value, seen[1][name]), name
        assert not torch.equal(value, seen[2][name]), name


def test_weight_decay_acts_on_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(weight_decay: float) -> dict[str, bool]:
        """For each parameter whether weight decay changes it in one step of gradient descent."""
        states = []
        for decay in (0.0, weight_decay):
            config = Feedforward(dropout=0.0)
            model = config.new(VOCAB_SIZE, seed=0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(1.0)
            train_config = TrainConfig(16, 1, 1, "sampled", 0.8, "float32")
            step = config.make_step(model, SGD(decay), train_config, seed=0, device="cpu")
            [(x, y)] = minibatches(corpus_of(config), train_config, 1, generator_for(0, "batches"), "cpu")
            step.run(x, y, [0.1])
            states.append(dict(model.named_parameters()))
        return {name: not torch.equal(value, states[1][name]) for name, value in states[0].items()}

    assert change(0.1) == {
        "0.weight": True,
        "2.weight": True,
        "2.bias": False,
        "3.weight": False,
        "3.bias": False,
        "6.weight": True,
        "6.bias": False,
    }
    monkeypatch.setattr(Feedforward, "decayed", lambda self, model: [])
    assert not any(change(0.1).values())


def test_the_loss_is_the_mean_over_the_predicted_characters_for_both_kinds_of_target() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator)
    y = torch.tensor([[1, 4, -100], [-100, -100, 2]])
    log_likelihoods = F.log_softmax(logits, dim=2)
    expected = -(log_likelihoods[0, 0, 1] + log_likelihoods[0, 1, 4] + log_likelihoods[1, 2, 2]) / 3
    one_hot = F.one_hot(y.clamp(min=0), 5).float() * (y >= 0).unsqueeze(2)
    assert minibatch_loss(logits, y).item() == pytest.approx(expected.item())
    assert minibatch_loss(logits, one_hot).item() == pytest.approx(expected.item())
    assert minibatch_loss(logits[0], y[0]).item() == pytest.approx(F.cross_entropy(logits[0, :2], y[0, :2]).item())
