"""Counted n-grams: the lecture's first language model, for orders 0 to 6, with two kinds of smoothing."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from makemore.contexts import DistinctContexts
from makemore.corpus import Corpus
from makemore.evaluate import mean_loss
from makemore.kneser_ney import KneserNey, Order, make_order, shorten
from makemore.limits import LimitError, check
from makemore.model import ModelConfig
from makemore.optimizer import Optimizer
from makemore.schedule import Schedule
from makemore.train import Evaluation, InfiniteLoss, TrainConfig, TrainResult, one_thread

ESTIMATORS = ("additive", "kneser_ney")
_ROWS = 10_000  # contexts at a time: it bounds the memory


@dataclass(frozen=True)
class NgramConfig(ModelConfig):
    """Which n-grams are counted, and how counts become probabilities."""

    order: int  # characters of an n-gram: the context and the next character; 0: all are equally likely
    # "additive": `smoothing` is added to each count; "kneser_ney": interpolated with shorter contexts, with `discount`.
    estimator: str
    smoothing: float
    discount: float
    counted: ClassVar[bool] = True
    overfitting_cure: ClassVar[str] = "more model.smoothing, model.estimator=kneser_ney, or a smaller model.order"
    underfitting_cure: ClassVar[str] = "a larger model.order"

    def __post_init__(self) -> None:
        check("order", self.order, low=0, high=6)
        if self.estimator not in ESTIMATORS:
            raise LimitError("estimator", self.estimator, " or ".join(ESTIMATORS))
        check("smoothing", self.smoothing, low=0)
        check("discount", self.discount, low=0, high=1)

    @property
    def block_size(self) -> int:
        """Characters of context that the model is given; orders 0 and 1 are given one and ignore it."""
        return max(1, self.order - 1)

    @property
    def unsmoothed_key(self) -> str | None:
        """The key that is 0, so that what train does not have is impossible."""
        key, value = self.amount
        return key if value == 0 else None

    @property
    def amount(self) -> tuple[str, float]:
        """The key that sets the amount of smoothing, and its value; at 0, n-grams that train lacks are impossible."""
        return ("smoothing", self.smoothing) if self.estimator == "additive" else ("discount", self.discount)

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        """Refused: n-grams have no initial weights.

        Raises:
            TypeError: always.
        """
        raise TypeError("n-grams are counted: `fit` makes them from a corpus and `restore` from their tables")

    def restore(self, vocab_size: int, weights: Mapping[str, Tensor]) -> "Ngram":
        """The model whose state_dict() is `weights`."""
        return Ngram.from_state(self, weights)

    def check(self, vocab_size: int) -> None:
        """Does nothing: the tests of this package cover the model."""

    def fit(
        self,
        corpus: Corpus,
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        config: TrainConfig | None = None,
        seed: int = 0,
        device: str = "cpu",
        report: Callable[[int, float], None] = lambda step, dev_loss: None,
        curve: list[Evaluation] | None = None,
        start: Mapping[str, Any] | None = None,
        offer: Callable[[Callable[[], dict[str, Any]]], None] = lambda make_state: None,
    ) -> TrainResult:
        """N-grams counted on train, as `count_ngrams` does; arguments that counting has no use for are ignored."""
        return count_ngrams(corpus, self, report, curve)


class Ngram(nn.Module):
    """P(next character | context) from sparse tables: exact for any context, also for one that train lacks.

    Both estimators are mixtures that go from short contexts to long ones. Kneser-Ney has entries at each length.
    Additive smoothing mixes the longest contexts with the uniform distribution,

        (count + smoothing) / (total + smoothing V) = count / (total + smoothing V) + backoff / V,

    and uses shorter contexts only to look the longest up. A context that train lacks has no counts, so its distribution
    is that of the shorter context, and in the end the uniform one, with or without smoothing.
    """

    base: Tensor

    def __init__(self, config: NgramConfig, base: Tensor, orders: list[Order]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("base", base)  # P(next character), (vocab_size,) float32
        for length, order in enumerate(orders, 1):
            for name, table in vars(order).items():
                self.register_buffer(f"{name}_{length}", table)
        self._orders = orders  # from one character up
        self._parents = [1, *(len(order.backoff) for order in orders)]
        self._keys = []  # of each order's contexts, rising; the last key stands for contexts that train lacks
        for order, parents in zip(orders, self._parents, strict=False):
            keys = order.oldest.long() * parents + order.parent
            self._keys.append(torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)]))

    @classmethod
    def fit(cls, config: NgramConfig, contexts: DistinctContexts) -> "Ngram":
        """N-grams counted on the distinct contexts of train, made with `config.block_size`."""
        if config.order == 0:
            return cls(config, torch.full((contexts.vocab_size,), 1 / contexts.vocab_size), [])
        if config.order == 1:
            contexts = contexts.merged()
        if config.estimator == "kneser_ney":
            counted = KneserNey(contexts, config.discount)
            return cls(config, counted.base, counted.orders)
        return cls(config, *_additive(contexts, config.smoothing))

    @classmethod
    def from_state(cls, config: NgramConfig, state: Mapping[str, Tensor]) -> "Ngram":
        """The model whose state_dict() is `state`."""
        names = [field.name for field in fields(Order)]
        lengths = range(1, config.order)
        orders = [Order(**{name: state[f"{name}_{length}"] for name in names}) for length in lengths]
        return cls(config, state["base"], orders)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities, which serve as logits, (n, vocab_size), of contexts x (n, block_size) int64."""
        table = self.base.expand(len(x), -1).clone()
        place = torch.zeros(len(x), dtype=torch.int64)  # the index of the empty context
        for length, (order, keys) in enumerate(zip(self._orders, self._keys, strict=True), 1):
            key = x[:, -length] * self._parents[length - 1] + place
            nearest = torch.searchsorted(keys, key)
            place = torch.where(keys[nearest] == key, nearest, len(keys) - 1)
            order.extend(table, place)
        return table.log_()

    @property
    def entries(self) -> int:
        """Number of stored probabilities: one for each character, and one for each n-gram of train at each order."""
        return len(self.base) * (self.config.order > 0) + sum(len(order.probabilities) for order in self._orders)


def count_ngrams(
    corpus: Corpus,
    config: NgramConfig,
    report: Callable[[int, float], None] = lambda step, dev_loss: None,
    curve: list[Evaluation] | None = None,
) -> TrainResult:
    """N-grams fitted to train in one pass, which counts as one step of a run.

    Args:
        report: called once, as report(1, dev_loss).
        curve: the one evaluation is appended here before it is reported.

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
            impossible, examples = _count_impossible(model, corpus.dev_contexts), len(corpus.dev_contexts.index)
            raise InfiniteLoss(
                f"the dev loss is infinite: {impossible} of {examples} dev characters have probability zero, as "
                f"model.{key} is {value:g}; set model.{key} above {value:g}"
            )
    curve.append(Evaluation(1, train_loss, dev_loss, lr=None, train_sd=0.0))
    report(1, dev_loss)
    return TrainResult(
        model=model.eval(),
        best_dev_loss=dev_loss,
        best_step=1,
        train_seconds=counted_time - start_time,
        evaluation_seconds=evaluated_time - counted_time,
        steps_per_second=1 / (counted_time - start_time),
        parameters=model.entries,
    )


def _count_impossible(model: Ngram, contexts: DistinctContexts) -> int:
    """How many next characters of a split have probability zero."""
    impossible = 0
    for x, row, entries in contexts.blocks(_ROWS):
        likelihoods = model(x)[row, contexts.next_tokens[entries].long()]
        impossible += int(contexts.counts[entries][likelihoods.isneginf()].sum())
    return impossible


def _additive(contexts: DistinctContexts, smoothing: float) -> tuple[Tensor, list[Order]]:
    """The base distribution and the orders of additive smoothing."""
    x, vocab_size = contexts.x, contexts.vocab_size
    row, token, count = torch.repeat_interleave(contexts.offsets.diff()), contexts.next_tokens, contexts.counts.double()
    total = torch.zeros(len(x), dtype=torch.float64).index_add_(0, row, count) + smoothing * vocab_size
    probabilities, backoff = (count / total[row]).float(), (smoothing * vocab_size / total).float()
    base = torch.full((vocab_size,), 1 / vocab_size)
    if x.shape[1] == 0:
        return base.mul_(backoff).index_add_(0, token.long(), probabilities), []
    orders: list[Order] = []
    while x.shape[1] > 0:
        shorter, parent = shorten(x, vocab_size)
        orders.insert(0, make_order(x[:, 0], parent, row, token, probabilities, backoff))
        x, backoff = shorter, torch.ones(len(shorter))
        row, token, probabilities = row[:0], token[:0], probabilities[:0]
    return base, orders
