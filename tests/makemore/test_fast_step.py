"""The fast step is the autograd step, only faster."""

import gc
import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from makemore.fast_step import FastStep, bfloat16_pays, table_pays
from makemore.limits import LimitError
from makemore.mlp import MLP, MLPAutogradStep, MLPConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.schedule import Constant, Cosine, Schedule, learning_rates
from makemore.train import one_thread

STEPS = 50
# batch_size, block_size, embedding_size, hidden_neurons, vocab_size, and whether there are direct connections
SIZES: list[tuple[int, ...]] = [
    (32, 3, 10, 40, 27),
    (1, 1, 1, 1, 2),
    (5, 8, 3, 7, 4),
    (70, 2, 6, 33, 30),
    (3, 64, 2, 5, 200),
]
LECTURE, DIRECT, NO_LAYER = SIZES[0], (32, 3, 10, 40, 27, True), (32, 3, 10, 0, 27)
LARGE = (512, 8, 48, 800, 500)  # bfloat16 pays on processors that have it
SIZES += [DIRECT, NO_LAYER, (5, 8, 3, 7, 4, True), (1, 1, 1, 0, 2)]
SGD_RULE, ADAMW_RULE = SGD(weight_decay=0.01), AdamW(weight_decay=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8)
RULES = [
    pytest.param(SGD(weight_decay=0.0), Constant(lr=0.1), id="sgd-constant"),
    pytest.param(SGD_RULE, Cosine(lr=0.2, warmup=0.1, final_factor=0.0), id="sgd-decay-cosine"),
    pytest.param(ADAMW_RULE, Constant(lr=0.01), id="adamw-constant"),
    pytest.param(AdamW(0.0, 0.8, 0.95, 1e-6), Cosine(lr=0.02, warmup=0.0, final_factor=0.1), id="adamw-cosine"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Also the autograd step's losses have the default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def new_model(sizes: tuple[int, ...], dropout: float) -> MLP:
    _, block_size, embedding_size, hidden_neurons, vocab_size, *direct = sizes
    config = MLPConfig(block_size, embedding_size, hidden_neurons, dropout, direct=direct == [True])
    return MLP(config, vocab_size, torch.Generator().manual_seed(1))


def minibatches(sizes: tuple[int, ...], targets: str, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    batch_size, block_size, _, _, vocab_size = sizes[:5]
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(vocab_size, (steps, batch_size, block_size), generator=generator)
    if targets == "sampled":
        return x, torch.randint(vocab_size, (steps, batch_size), generator=generator)
    return x, torch.rand(steps, batch_size, vocab_size, generator=generator).pow_(4).softmax(2)


def train_both(
    sizes: tuple[int, ...],
    optimizer: Optimizer,
    schedule: Schedule,
    targets: str,
    dropout: float,
    precision: str = "float32",
    first_layer: str = "auto",
    piece_steps: int = 128,
) -> tuple[MLP, Tensor, MLP, Tensor]:
    """Models and losses of the autograd step and of the fast step, each called twice."""
    x, y = minibatches(sizes, targets)
    lr = learning_rates(schedule, STEPS)
    reference, fast = new_model(sizes, dropout), new_model(sizes, dropout)
    mask, same_mask = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    steppers = (
        MLPAutogradStep(reference, optimizer, mask),
        FastStep(fast, optimizer, same_mask, precision, first_layer=first_layer, piece_steps=piece_steps),
    )
    losses = [
        torch.cat([stepper.run(x[:20], y[:20], lr[:20]), stepper.run(x[20:], y[20:], lr[20:])]) for stepper in steppers
    ]
    return reference, losses[0], fast, losses[1]


def weights_after_two_steps(model: MLP, sizes: tuple[int, ...], precision: str, first_layer: str = "auto") -> Tensor:
    step = FastStep(model, SGD_RULE, torch.Generator(), precision, first_layer=first_layer)
    step.run(*minibatches(sizes, "sampled", steps=2), lr=[0.1, 0.1])
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def assert_equal(reference: MLP, fast: MLP, tolerance: float) -> None:
    for name, weight in reference.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[name], weight, rtol=0, atol=tolerance)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("targets", ["sampled", "distribution"])
@pytest.mark.parametrize(("optimizer", "schedule"), RULES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_in_double_it_equals_the_autograd_step(
    sizes: tuple[int, ...],
    optimizer: Optimizer,
    schedule: Schedule,
    targets: str,
    dropout: float,
    first_layer: str,
) -> None:
    with default_dtype(torch.float64):
        reference, expected, fast, losses = train_both(
            sizes, optimizer, schedule, targets, dropout, first_layer=first_layer
        )
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-9)
    assert_equal(reference, fast, tolerance=1e-9)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("targets", ["sampled", "distribution"])
@pytest.mark.parametrize(("optimizer", "schedule"), RULES)
@pytest.mark.parametrize("sizes", [LECTURE, DIRECT, NO_LAYER], ids=str)
def test_in_single_it_equals_the_autograd_step(
    sizes: tuple[int, ...],
    optimizer: Optimizer,
    schedule: Schedule,
    targets: str,
    dropout: float,
    first_layer: str,
) -> None:
    reference, expected, fast, losses = train_both(
        sizes, optimizer, schedule, targets, dropout, first_layer=first_layer
    )
    # Sums in another order differ by some 1e-7 a step. SGD only adds that up; AdamW divides a gradient by its own
    # size, so a weight with a gradient near zero may go another way: at most 50 steps of 0.01, in practice 1e-5.
    tolerance = 1e-5 if isinstance(optimizer, SGD) else 1e-4
    torch.testing.assert_close(losses, expected, rtol=0, atol=tolerance)
    assert_equal(reference, fast, tolerance)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
@pytest.mark.parametrize("targets", ["sampled", "distribution"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_its_gradient_is_the_one_of_autograd(sizes: tuple[int, ...], targets: str, first_layer: str) -> None:
    with default_dtype(torch.float64):
        x, y = minibatches(sizes, targets, steps=1)
        reference, fast = new_model(sizes, 0.0), new_model(sizes, 0.0)
        before = {name: weight.clone() for name, weight in fast.state_dict().items()}
        FastStep(fast, SGD(weight_decay=0.0), torch.Generator(), first_layer=first_layer).run(x, y, [1.0])
        torch.nn.functional.cross_entropy(reference(x[0]), y[0]).backward()  # type: ignore[no-untyped-call]
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(before[name] - fast.state_dict()[name], parameter.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [LECTURE, DIRECT, NO_LAYER], ids=str)
def test_the_batch_size_may_change_between_runs(sizes: tuple[int, ...]) -> None:
    reference, fast = new_model(sizes, 0.2), new_model(sizes, 0.2)
    for model, Step in ((reference, MLPAutogradStep), (fast, FastStep)):
        stepper = Step(model, ADAMW_RULE, torch.Generator().manual_seed(3))
        for batch_size in (32, 7, 100, 32):
            x, y = minibatches((batch_size, *sizes[1:]), "sampled")
            stepper.run(x, y, [0.001] * STEPS)
    assert_equal(reference, fast, tolerance=1e-4)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
def test_a_run_in_many_pieces_equals_the_autograd_step(first_layer: str) -> None:
    reference, expected, fast, losses = train_both(
        LECTURE, ADAMW_RULE, Constant(lr=0.001), "sampled", dropout=0.2, first_layer=first_layer, piece_steps=7
    )
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-4)
    assert_equal(reference, fast, tolerance=1e-4)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
def test_its_memory_is_free_as_soon_as_it_is_dropped(first_layer: str) -> None:
    step = FastStep(new_model(LECTURE, 0.2), ADAMW_RULE, torch.Generator(), first_layer=first_layer)
    step.run(*minibatches(LECTURE, "distribution"), lr=[0.01] * STEPS)
    gone = weakref.ref(step)
    gc.collect()
    gc.disable()
    try:
        del step
        assert gone() is None
        assert gc.collect() == 0  # no part of the step was left in a reference cycle either
    finally:
        gc.enable()


def test_the_same_arguments_give_bitwise_equal_weights() -> None:
    weights = [train_both(LECTURE, ADAMW_RULE, Constant(lr=0.01), "sampled", dropout=0.2)[2] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].parameters(), weights[1].parameters(), strict=True))


@pytest.mark.parametrize("sizes", [LECTURE, DIRECT, NO_LAYER], ids=str)
def test_the_parameters_become_views_of_one_buffer_and_keep_their_values(sizes: tuple[int, ...]) -> None:
    model = new_model(sizes, 0.0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    parameters = list(model.parameters())
    FastStep(model, SGD_RULE, torch.Generator())
    assert all(new is old for new, old in zip(model.parameters(), parameters, strict=True))
    buffers = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parameters}
    assert list(buffers.values()) == [sum(p.nbytes for p in parameters)]
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
    model.load_state_dict({name: torch.full_like(weight, 2.0) for name, weight in before.items()})
    assert all(bool((parameter == 2).all()) for parameter in parameters)
    assert {p.untyped_storage().data_ptr() for p in parameters} == set(buffers)


@pytest.mark.parametrize("first_layer", ["direct", "table"])
@pytest.mark.parametrize("optimizer", [SGD_RULE, ADAMW_RULE], ids=["sgd", "adamw"])
@pytest.mark.parametrize("sizes", [LECTURE, DIRECT], ids=str)
def test_bfloat16_products_stay_close_to_float32(
    sizes: tuple[int, ...], optimizer: Optimizer, first_layer: str
) -> None:
    lr = 0.1 if isinstance(optimizer, SGD) else 0.002
    reference, expected, fast, losses = train_both(
        sizes, optimizer, Constant(lr), "sampled", 0.0, "bfloat16", first_layer
    )
    assert not torch.equal(losses, expected)
    # bfloat16 keeps 8 bits, so a rounded logit (here below 2) is off by 2^-8 or less, and a loss by no more than that,
    # plus as much again for weights that went a slightly different way
    torch.testing.assert_close(losses, expected, rtol=0, atol=2**-7)
    for name, weight in reference.state_dict().items():
        difference = fast.state_dict()[name] - weight
        moved = weight - new_model(sizes, 0.0).state_dict()[name]
        assert fast.state_dict()[name].dtype == torch.float32
        assert float(difference.norm() / moved.norm()) < 0.1, name


def test_the_table_is_for_large_batches_of_a_small_alphabet() -> None:
    assert table_pays(512, 8, 24, 500, 27)
    assert not table_pays(32, 3, 10, 200, 27)
    assert not table_pays(512, 8, 24, 500, 1000)
    assert not table_pays(1, 1, 1, 1, 2)


@pytest.mark.parametrize("sizes", [LECTURE, (256, 5, 16, 200, 27), LARGE], ids=str)
def test_auto_takes_the_path_that_the_rules_name(sizes: tuple[int, ...]) -> None:
    named = ("bfloat16" if bfloat16_pays(*sizes) else "float32", "table" if table_pays(*sizes) else "direct")
    automatic = weights_after_two_steps(new_model(sizes, 0.0), sizes, "auto", "auto")
    for path in itertools.product(["float32", "bfloat16"], ["direct", "table"]):
        weights = weights_after_two_steps(new_model(sizes, 0.0), sizes, *path)
        assert torch.equal(weights, automatic) == (path == named), path


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16", None])
def test_auto_takes_bfloat16_only_for_large_products_on_a_processor_that_has_it(
    monkeypatch: pytest.MonkeyPatch, feature: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    assert bfloat16_pays(512, 8, 48, 800, 500) == (feature is not None)
    assert not bfloat16_pays(32, 3, 10, 200, 27)


def test_an_unknown_precision_or_first_layer_is_refused() -> None:
    with pytest.raises(LimitError, match="precision is float8; it must be float32 or bfloat16 or auto"):
        FastStep(new_model(LECTURE, 0.0), SGD_RULE, torch.Generator(), "float8")
    with pytest.raises(LimitError, match="first_layer is tree; it must be direct or table or auto"):
        FastStep(new_model(LECTURE, 0.0), SGD_RULE, torch.Generator(), first_layer="tree")


def test_a_model_that_is_not_on_the_cpu_is_refused() -> None:
    with pytest.raises(LimitError, match="device is meta; it must be cpu"):
        FastStep(new_model(LECTURE, 0.0).to("meta"), SGD_RULE, torch.Generator())


def test_bfloat16_is_refused_for_a_double_model_and_auto_leaves_it_exact() -> None:
    with pytest.raises(LimitError, match="precision is bfloat16"):
        FastStep(new_model(LECTURE, 0.0).double(), SGD_RULE, torch.Generator(), "bfloat16")
    automatic, exact = (
        weights_after_two_steps(new_model(LARGE, 0.0).double(), LARGE, precision) for precision in ("auto", "float32")
    )
    assert torch.equal(automatic, exact)
