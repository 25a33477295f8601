"""The training loop: minibatches in, evaluations out; or one pass that counts. It reports; it does not log."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Protocol

import torch
from torch import Tensor

from makemore.autograd_step import AutogradStep
from makemore.contexts import DistinctContexts, Examples, build_examples, distinct_contexts
from makemore.data import Alphabet, Split
from makemore.evaluate import count_impossible, mean_loss
from makemore.fast_step import PRECISIONS, FastStep
from makemore.kneser_ney import KneserNey
from makemore.limits import LimitError, check
from makemore.mlp import MLP, MLPConfig
from makemore.ngram import Ngram, NgramConfig
from makemore.optimizer import Optimizer
from makemore.schedule import Schedule, learning_rates

TARGETS = ("sampled", "distribution", "kneser_ney")
_DIVERGED = 10.0  # a bad initialisation of a lecture starts at 8 times the loss of guessing, and recovers
_TABLE_NUMBERS = 50_000_000  # 200 MB of target distributions
_TABLE_BLOCK = 65_536  # contexts whose distributions are made at a time
_CHUNK_NUMBERS = 2_000_000  # of gathered contexts and targets: some 16 MB, so that gathering stays in cache and memory


@dataclass(frozen=True)
class TrainConfig:
    """How long to train, on what, and how often to look at the dev split."""

    batch_size: int
    steps: int
    evaluations: int  # of the dev split, evenly spaced, the last one after the last step
    # "sampled": the next character drawn with its context; "distribution": all that follow the context in train;
    # "kneser_ney": those, smoothed with `discount` towards what follows shorter contexts.
    targets: str
    discount: float
    precision: str  # of the large products on a CPU: "float32", "bfloat16", or "auto": whichever is faster

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

    step: int  # steps taken so far; of counts, 1
    # Mean over the minibatches since the last evaluation, under dropout if there is any; of counts, over all of train.
    train_loss: float
    dev_loss: float
    lr: float | None  # of the last step taken; counts have none
    train_sd: float  # standard deviation of the minibatches' losses since the last evaluation; of counts, 0


@dataclass(frozen=True)
class TrainResult:
    """A trained model, with the weights of its best evaluation, and what it cost."""

    model: MLP | Ngram
    best_dev_loss: float
    best_step: int
    train_seconds: float  # the training steps alone
    evaluation_seconds: float
    steps_per_second: float
    parameters: int


class Diverged(ArithmeticError):
    """The loss became NaN, infinite or far worse than guessing: a smaller learning rate would help."""


class InfiniteLoss(ArithmeticError):
    """Counts give characters of dev probability zero: smoothing would help."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """A split as the trainer uses it: examples of train, distinct contexts of dev and, when asked for, of train."""

    alphabet: Alphabet
    train: Examples
    dev_contexts: DistinctContexts

    @cached_property
    def train_contexts(self) -> DistinctContexts:
        """Made at first use: training on sampled characters does without."""
        return distinct_contexts(self.train)

    @cached_property
    def train_sample(self) -> DistinctContexts:
        """As many examples of train as dev has, evenly spaced: what the loss on train is estimated with."""
        count = min(len(self.train), len(self.dev_contexts.index))
        chosen = torch.arange(count) * len(self.train) // count
        return distinct_contexts(replace(self.train, positions=self.train.positions[chosen]))

    @cached_property
    def targets(self) -> Callable[[str, float], Callable[[Tensor], Tensor]]:
        """targets(kind, discount): next-character distributions of contexts, by their indices.

        (k,) -> (k, vocab_size) float32. All are kept where that takes little memory; otherwise each call makes what
        it is asked for.
        """
        return lru_cache(maxsize=2)(self._make_targets)

    def _make_targets(self, kind: str, discount: float) -> Callable[[Tensor], Tensor]:
        contexts = self.train_contexts
        make = KneserNey(contexts, discount).targets if kind == "kneser_ney" else contexts.targets
        if len(contexts) * contexts.vocab_size > _TABLE_NUMBERS:
            return make
        table = torch.cat([make(block) for block in torch.split(torch.arange(len(contexts)), _TABLE_BLOCK)])
        return partial(table.index_select, 0)


def build_corpus(split: Split, alphabet: Alphabet, block_size: int) -> Corpus:
    """Examples of a split's train and dev words at one block size."""
    train, dev = (build_examples(words, alphabet, block_size) for words in (split.train, split.dev))
    return Corpus(alphabet, train, distinct_contexts(dev))


def train(
    corpus: Corpus,
    model_config: MLPConfig,
    optimizer: Optimizer,
    schedule: Schedule,
    config: TrainConfig,
    seed: int,
    device: str = "cpu",
    report: Callable[[int, float], None] = lambda step, dev_loss: None,
    curve: list[Evaluation] | None = None,
) -> TrainResult:
    """Train one model; the same arguments give bitwise the same weights on the same machine.

    Args:
        report: called as report(step, dev_loss) after each evaluation. What it raises ends the run.
        curve: each evaluation is appended here before it is reported, so the curve outlives a run that is ended.

    Raises:
        Diverged: a loss is NaN, infinite or far worse than guessing.
    """
    curve = [] if curve is None else curve
    stepper = make_stepper(corpus, model_config, optimizer, config, seed, device)
    model, vocab_size = stepper.model, corpus.alphabet.vocab_size
    batches = generator_for(seed, "batches")
    lr = learning_rates(schedule, config.steps)
    best_dev_loss, best_step, best_weights = math.inf, 0, model.state_dict()
    train_seconds = evaluation_seconds = 0.0
    step = 0
    with one_thread():
        if config.targets != "sampled":
            corpus.targets(config.targets, config.discount)  # made once a corpus, and no part of the training steps
        for stop in evaluation_steps(config):
            start_time = time.perf_counter()
            loss_sum, square_sum, first = 0.0, 0.0, step
            for x, y in minibatches(corpus, config, stop - step, batches, device):
                losses = stepper.run(x, y, lr[step : step + len(x)]).double()
                loss_sum += float(losses.sum())
                square_sum += float(losses.square().sum())
                step += len(x)
                _check_loss("training", loss_sum / (step - first), step, vocab_size)
            trained_time = time.perf_counter()
            dev_loss = mean_loss(model, corpus.dev_contexts)
            train_seconds += trained_time - start_time
            evaluation_seconds += time.perf_counter() - trained_time
            _check_loss("dev", dev_loss, step, vocab_size)
            if dev_loss < best_dev_loss:
                best_dev_loss, best_step = dev_loss, step
                best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
            train_loss = loss_sum / (step - first)
            train_sd = math.sqrt(max(0.0, square_sum / (step - first) - train_loss**2))
            curve.append(Evaluation(step, train_loss, dev_loss, lr[step - 1], train_sd))
            report(step, dev_loss)
    model.load_state_dict(best_weights)
    return TrainResult(
        model=model,
        best_dev_loss=best_dev_loss,
        best_step=best_step,
        train_seconds=train_seconds,
        evaluation_seconds=evaluation_seconds,
        steps_per_second=config.steps / train_seconds,
        parameters=model_config.parameters(vocab_size),
    )


def count_ngrams(
    corpus: Corpus,
    config: NgramConfig,
    report: Callable[[int, float], None] = lambda step, dev_loss: None,
    curve: list[Evaluation] | None = None,
) -> TrainResult:
    """Fit n-grams to train in one pass, as one step of a run: `report` and `curve` are those of `train`.

    Raises:
        InfiniteLoss: a character of dev has probability zero.
    """
    curve = [] if curve is None else curve
    with one_thread():
        start_time = time.perf_counter()
        model = Ngram.fit(config, corpus.train_contexts)
        counted_time = time.perf_counter()
        train_loss, dev_loss = mean_loss(model, corpus.train_contexts), mean_loss(model, corpus.dev_contexts)
        evaluated_time = time.perf_counter()
        if math.isinf(dev_loss):
            key, value = config.amount
            impossible, examples = count_impossible(model, corpus.dev_contexts), len(corpus.dev_contexts.index)
            raise InfiniteLoss(
                f"the dev loss is infinite: {impossible} of {examples} dev characters have probability zero, as "
                f"model.{key} is {value:g}; set model.{key} above {value:g}"
            )
    curve.append(Evaluation(1, train_loss, dev_loss, lr=None, train_sd=0.0))
    report(1, dev_loss)
    return TrainResult(
        model=model,
        best_dev_loss=dev_loss,
        best_step=1,
        train_seconds=counted_time - start_time,
        evaluation_seconds=evaluated_time - counted_time,
        steps_per_second=1 / (counted_time - start_time),
        parameters=model.entries,
    )


class Stepper(Protocol):
    """Takes training steps on a model, in place: the one door between the loop and how a step is computed."""

    model: MLP

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,)."""


def make_stepper(
    corpus: Corpus, model_config: MLPConfig, optimizer: Optimizer, config: TrainConfig, seed: int, device: str
) -> Stepper:
    """A new model with the seed's weights, and the fastest step for where it lives."""
    model = MLP(model_config, corpus.alphabet.vocab_size, generator_for(seed, "weights")).to(device)
    dropout = generator_for(seed, "dropout")
    if device == "cpu":
        return FastStep(model, optimizer, dropout, config.precision)
    return AutogradStep(model, optimizer, dropout)


def _check_loss(name: str, loss: float, step: int, vocab_size: int) -> None:
    limit = _DIVERGED * math.log(vocab_size)  # so many times the loss of guessing
    if not loss <= limit:  # also false for NaN
        raise Diverged(f"the {name} loss is {loss:.3g} at step {step} (limit {limit:.3g}); try a smaller schedule.lr")


def evaluation_steps(config: TrainConfig) -> list[int]:
    """After how many steps the dev split is evaluated, in rising order; the last is `steps`."""
    return [round(part * config.steps / config.evaluations) for part in range(1, config.evaluations + 1)]


def minibatches(
    corpus: Corpus, config: TrainConfig, steps: int, generator: torch.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of examples drawn with replacement, many steps at a time.

    Yields x (k, batch_size, block_size) int64 and y: (k, batch_size) int64, or for targets that are distributions
    (k, batch_size, vocab_size) float32, what follows the context anywhere in train. "sampled" and "distribution" have
    the same expected gradient; the second has far less variance.
    """
    per_step = config.batch_size * (corpus.train.block_size + corpus.alphabet.vocab_size)
    chunk = max(1, _CHUNK_NUMBERS // per_step)
    for done in range(0, steps, chunk):
        shape = (min(chunk, steps - done), config.batch_size)
        index = torch.randint(len(corpus.train), shape, generator=generator)
        if config.targets == "sampled":
            x, y = corpus.train.x(index), corpus.train.y(index)
        else:
            contexts = corpus.train_contexts.index[index.flatten()].long()
            x = corpus.train_contexts.x[contexts].long().view(*shape, -1)
            y = corpus.targets(config.targets, config.discount)(contexts).view(*shape, -1)
        yield x.to(device), y.to(device)


def generator_for(seed: int, purpose: str) -> torch.Generator:
    """A random generator of its own for each purpose: another model size does not change the minibatches."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what is inside: at these sizes a second one only costs; run two trials instead."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
