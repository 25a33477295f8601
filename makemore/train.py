"""The training loop: minibatches in, evaluations out. It reports; it does not log."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from makemore.corpus import Corpus
from makemore.fast_step import PRECISIONS
from makemore.limits import LimitError, check
from makemore.optimizer import Optimizer
from makemore.schedule import Schedule, learning_rates

if TYPE_CHECKING:
    from makemore.model import ModelConfig

TARGETS = ("sampled", "distribution", "kneser_ney")
_DIVERGED = 10.0  # times the loss of guessing; a bad initialisation in a lecture starts at 8 times, and recovers
_CHUNK_NUMBERS = 2_000_000  # contexts and targets gathered at a time: some 16 MB, which stay in cache


@dataclass(frozen=True)
class TrainConfig:
    """How long to train, on what, and how often to look at the dev split."""

    batch_size: int
    steps: int
    evaluations: int  # of the dev split, evenly spaced, the last one after the last step
    # "sampled": the next character of the drawn example; "distribution": all characters that follow its context in
    # train; "kneser_ney": that distribution, smoothed with `discount` towards those of shorter contexts.
    targets: str
    discount: float
    precision: str  # of the MLP's large products on a CPU: "float32", "bfloat16", or "auto": whichever is faster

    def __post_init__(self) -> None:
        check("batch_size", self.batch_size, low=1, high=1_000_000)
        check("steps", self.steps, low=1, high=100_000_000)
        check("evaluations", self.evaluations, low=1, high=self.steps)
        check("discount", self.discount, low=0, high=1)
        if self.targets not in TARGETS:
            raise LimitError("targets", self.targets, " or ".join(TARGETS))
        if self.precision not in PRECISIONS:
            raise LimitError("precision", self.precision, " or ".join(PRECISIONS))


@dataclass(frozen=True)
class Evaluation:
    """One point of a run's loss curve; losses in nats per character."""

    step: int  # steps taken so far; 1 for a counted model
    # Mean over the minibatches since the last evaluation, under dropout if there is any; for a counted model, the loss
    # on all of train.
    train_loss: float
    dev_loss: float
    lr: float | None  # of the last step taken; None for a counted model
    train_sd: float  # standard deviation of the minibatch losses since the last evaluation; 0 for a counted model


@dataclass(frozen=True)
class TrainResult:
    """A trained model, with the weights of its best evaluation, and what it cost."""

    model: nn.Module  # in evaluation mode
    best_dev_loss: float
    best_step: int
    train_seconds: float  # the training steps alone
    evaluation_seconds: float
    steps_per_second: float
    parameters: int


class Diverged(ArithmeticError):
    """The loss became NaN, infinite or far worse than guessing: a smaller learning rate would help."""


class InfiniteLoss(Diverged):
    """Counts give characters of dev probability zero: smoothing would help."""


class Stepper(Protocol):
    """Takes training steps on a module, in place: the interface between the loop and how a step is computed."""

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,)."""


@runtime_checkable
class Resumable(Protocol):
    """A stepper whose steps can go on in another process."""

    def state(self) -> dict[str, Any]:
        """What `restore` needs, beside the module's state_dict: tensors, numbers and texts in dicts and lists."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the stepper stood that gave the state."""


def train(
    corpus: Corpus,
    model_config: "ModelConfig",
    optimizer: Optimizer,
    schedule: Schedule,
    config: TrainConfig,
    seed: int,
    device: str = "cpu",
    report: Callable[[int, float], None] = lambda step, dev_loss: None,
    curve: list[Evaluation] | None = None,
    start: Mapping[str, Any] | None = None,
    offer: Callable[[Callable[[], dict[str, Any]]], None] = lambda make_state: None,
) -> TrainResult:
    """Train one model by gradient descent; the same arguments give bitwise the same weights on the same machine.

    Args:
        report: called as report(step, dev_loss) after each evaluation. What it raises ends the run.
        curve: each evaluation is appended here before it is reported, so the curve outlives a run that is ended.
        start: a state from `offer`, from which training goes on, bitwise as if it had not been ended. Evaluations
            before it are in `curve`, but are not reported again.
        offer: called before each report with a function that gives the state of training at that moment: tensors,
            numbers and texts in dicts and lists. Not called where the model's steps cannot go on elsewhere.

    Raises:
        Diverged: a loss is NaN, infinite or far worse than guessing.
    """
    curve = [] if curve is None else curve
    vocab_size = corpus.alphabet.vocab_size
    model = model_config.new(vocab_size, seed).to(device)
    stepper = model_config.make_step(model, optimizer, config, seed, device)
    batches = generator_for(seed, "batches")
    lr = learning_rates(schedule, config.steps)
    best_dev_loss, best_step, best_weights = math.inf, 0, model.state_dict()
    train_seconds = evaluation_seconds = 0.0
    step = 0

    def state() -> dict[str, Any]:
        assert isinstance(stepper, Resumable)
        return {
            "model": dict(model.state_dict()),
            "stepper": stepper.state(),
            "batches": batches.get_state(),
            "best": [best_dev_loss, best_step, best_weights],
            "seconds": [train_seconds, evaluation_seconds],
            "curve": [list(astuple(evaluation)) for evaluation in curve],
        }

    if start is not None and isinstance(stepper, Resumable):
        model.load_state_dict(start["model"])
        stepper.restore(start["stepper"])
        batches.set_state(start["batches"])
        best_dev_loss, best_step, best_weights = start["best"]
        train_seconds, evaluation_seconds = start["seconds"]
        curve[:] = [Evaluation(*values) for values in start["curve"]]
        step = curve[-1].step
    with one_thread():
        if config.targets != "sampled":
            corpus.targets(config.targets, config.discount)  # made once for a corpus, so not timed as training
        for stop in (stop for stop in evaluation_steps(config) if stop > step):
            start_time = time.perf_counter()
            loss_sum, square_sum, first = 0.0, 0.0, step
            for x, y in minibatches(corpus, config, stop - step, batches, device, model_config.every_position):
                losses = stepper.run(x, y, lr[step : step + len(x)]).double()
                loss_sum += float(losses.sum())
                square_sum += float(losses.square().sum())
                step += len(x)
                _check_loss("training", loss_sum / (step - first), step, vocab_size)
            trained_time = time.perf_counter()
            dev_loss = model_config.mean_loss(model, corpus.dev_contexts)
            train_seconds += trained_time - start_time
            evaluation_seconds += time.perf_counter() - trained_time
            _check_loss("dev", dev_loss, step, vocab_size)
            if dev_loss < best_dev_loss:
                best_dev_loss, best_step = dev_loss, step
                best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
            train_loss = loss_sum / (step - first)
            train_sd = math.sqrt(max(0.0, square_sum / (step - first) - train_loss**2))
            curve.append(Evaluation(step, train_loss, dev_loss, lr[step - 1], train_sd))
            if isinstance(stepper, Resumable):
                offer(state)
            report(step, dev_loss)
    model.load_state_dict(best_weights)
    return TrainResult(
        model=model.eval(),
        best_dev_loss=best_dev_loss,
        best_step=best_step,
        train_seconds=train_seconds,
        evaluation_seconds=evaluation_seconds,
        steps_per_second=config.steps / train_seconds,
        parameters=count_parameters(model),
    )


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in a module."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _check_loss(name: str, loss: float, step: int, vocab_size: int) -> None:
    limit = _DIVERGED * math.log(vocab_size)
    if not loss <= limit:  # also false for NaN
        raise Diverged(f"the {name} loss is {loss:.3g} at step {step} (limit {limit:.3g}); try a smaller schedule.lr")


def evaluation_steps(config: TrainConfig) -> list[int]:
    """The steps after which the dev split is evaluated, in rising order; the last is `steps`."""
    return [round(part * config.steps / config.evaluations) for part in range(1, config.evaluations + 1)]


def minibatches(
    corpus: Corpus,
    config: TrainConfig,
    steps: int,
    generator: torch.Generator,
    device: str,
    every_position: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches drawn with replacement, many steps at a time, as (x, y).

    For a module that takes contexts a minibatch is batch_size examples: x (k, batch_size, block_size) int64, and
    y (k, batch_size) int64 or, for targets that are distributions, (k, batch_size, vocab_size) float32. For a module
    that gives logits at every position it is batch_size sequences: x is the same, and y has a dimension block_size
    behind batch_size; where nothing is predicted it is -100, or a row of zeros.

    A distribution is what follows the context anywhere in train. "sampled" and "distribution" have the same expected
    gradient; the second has far less variance.
    """
    block_size, vocab_size = corpus.train.block_size, corpus.alphabet.vocab_size
    source = corpus.train_sequences if every_position else corpus.train
    per_step = config.batch_size * (block_size * (1 + vocab_size) if every_position else block_size + vocab_size)
    chunk = max(1, _CHUNK_NUMBERS // per_step)
    for done in range(0, steps, chunk):
        shape = (min(chunk, steps - done), config.batch_size)
        index = torch.randint(len(source), shape, generator=generator)
        if config.targets == "sampled":
            x, y = source.x(index), source.y(index)
        elif every_position:
            x, y = _sequence_distributions(corpus, config, index)
        else:
            contexts = corpus.train_contexts.index[index.flatten()].long()
            x = corpus.train_contexts.x[contexts].long().view(*shape, -1)
            y = corpus.targets(config.targets, config.discount)(contexts).view(*shape, -1)
        yield x.to(device), y.to(device)


def _sequence_distributions(corpus: Corpus, config: TrainConfig, index: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of the sequences `index`, and at each position the distribution of what follows there."""
    example = corpus.train_sequences.example_of(index)
    predicted = example >= 0
    contexts = corpus.train_contexts.index[example[predicted]].long()
    y = torch.zeros(*example.shape, corpus.alphabet.vocab_size)
    y[predicted] = corpus.targets(config.targets, config.discount)(contexts)
    return corpus.train_sequences.x(index), y


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A random generator for one purpose, so that another model size does not change the minibatches."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside: at these sizes a second thread only costs time; run two trials instead."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
