import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from makemore.limits import LimitError
from makemore.mlp import MLP, MLPConfig

SHAPES = [(3, 10, 200, 27), (8, 24, 500, 27), (1, 2, 10, 5), (5, 16, 300, 300), (3, 10, 200, 27, True), (3, 10, 0, 27)]


def build(block_size: int, embedding_size: int, hidden_neurons: int, vocab_size: int, direct: bool = False) -> MLP:
    generator = torch.Generator().manual_seed(1)
    return MLP(MLPConfig(block_size, embedding_size, hidden_neurons, 0.0, direct), vocab_size, generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_loss_is_within_2_percent_of_log_vocab_size(shape: tuple[int, ...]) -> None:
    model, vocab_size = build(*shape), shape[3]
    x = torch.randint(vocab_size, (4000, shape[0]), generator=torch.Generator().manual_seed(2))
    y = torch.randint(vocab_size, (4000,), generator=torch.Generator().manual_seed(3))
    loss = F.cross_entropy(model(x), y).item()
    assert abs(loss / math.log(vocab_size) - 1) < 0.02


def test_few_tanh_neurons_are_saturated_at_the_start() -> None:
    model = build(3, 10, 200, 27)
    x = torch.randint(27, (2000, 3), generator=torch.Generator().manual_seed(2))
    h = torch.tanh(model.C[x].flatten(1) @ model.W1 + model.b1)
    # A standard normal is beyond atanh(0.97) = 2.09 with probability 0.037; twice that leaves room for few contexts.
    assert (h.abs() > 0.97).float().mean() < 0.08


@pytest.mark.parametrize(("hidden_neurons", "direct"), [(4, False), (4, True), (0, False), (0, True)])
def test_the_model_is_ten_lines_of_plain_algebra(hidden_neurons: int, direct: bool) -> None:
    model = build(2, 3, hidden_neurons, 5, direct)
    assert (model.D is None) == (hidden_neurons > 0 and not direct)
    x = [1, 4]
    inputs = [value for token in x for value in model.C[token].tolist()]
    h = [
        math.tanh(
            sum(value * model.W1[row, column].item() for row, value in enumerate(inputs)) + model.b1[column].item()
        )
        for column in range(hidden_neurons)
    ]
    logits = [
        sum(value * model.W2[row, column].item() for row, value in enumerate(h))
        + (0 if model.D is None else sum(value * model.D[row, column].item() for row, value in enumerate(inputs)))
        + model.b2[column].item()
        for column in range(5)
    ]
    assert model(torch.tensor([x]))[0].tolist() == pytest.approx(logits, abs=1e-6)


def test_parameters_are_counted() -> None:
    model = build(3, 10, 200, 27)  # the lecture's
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert model.config.parameters(27) == numbers == 11897
    for shape in ((3, 10, 200, 27, True), (2, 4, 0, 27), (2, 4, 0, 27, True)):
        model = build(*shape)
        assert model.config.parameters(27) == sum(parameter.numel() for parameter in model.parameters())


def test_fewer_neurons_than_none_are_refused() -> None:
    with pytest.raises(LimitError, match="hidden_neurons is -1; it must be >= 0"):
        MLPConfig(3, 10, -1, 0.0)


def test_the_plain_initialisation_draws_all_from_one_normal_distribution_and_starts_far_worse() -> None:
    config = MLPConfig(block_size=3, embedding_size=10, hidden_neurons=200, dropout=0.0)
    plain = MLP(dataclasses.replace(config, initialization="normal"), 27, torch.Generator().manual_seed(0))
    for name, weight in plain.named_parameters():
        assert weight.std().item() == pytest.approx(1, abs=0.2), name
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randint(27, shape, generator=generator) for shape in ((500, 3), (500,)))
    first = [F.cross_entropy(model(x), y).item() for model in (plain, MLP(config, 27, torch.Generator()))]
    assert first[0] > 10
    assert first[1] == pytest.approx(math.log(27), abs=0.1)
    with pytest.raises(LimitError, match="initialization is big; it must be scaled or normal"):
        dataclasses.replace(config, initialization="big")
