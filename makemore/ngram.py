"""Counted n-grams with additive smoothing: the lecture's first language model, for any order."""

from dataclasses import dataclass

import torch
from torch import Tensor

from makemore.contexts import Examples, rank_rows


@dataclass(frozen=True)
class NgramCounts:
    """How often train has what each example of another split asks about."""

    followed: Tensor  # the example's context by its next character, (n,) float64
    seen: Tensor  # the example's context, (n,) float64
    vocab_size: int

    def losses(self, smoothing: float) -> Tensor:
        """Negative log-likelihood of each example in nats, (n,) float64; infinite where smoothing leaves a zero.

        p = (count(context, next) + smoothing) / (count(context) + smoothing * vocab_size)
        """
        probability = (self.followed + smoothing) / (self.seen + smoothing * self.vocab_size)
        return -probability.nan_to_num(0.0).log()  # 0 / 0: a context that train does not have, without smoothing


def count_ngrams(train: Examples, examples: Examples) -> NgramCounts:
    """Count in train what the examples need; an n-gram's order is one more than the block size of both."""
    n, vocab_size = len(train), train.vocab_size
    positions = [split.positions.long() for split in (train, examples)]
    streams = [train.stream, examples.stream]

    def column(back: int) -> Tensor:
        return torch.cat([stream[place - back] for stream, place in zip(streams, positions, strict=True)]).long()

    contexts, context = rank_rows(map(column, range(train.block_size, 0, -1)), n + len(examples), vocab_size)
    pair = torch.unique(context * vocab_size + column(0), return_inverse=True)[1]
    followed = torch.bincount(pair[:n], minlength=int(pair.max()) + 1)
    seen = torch.bincount(context[:n], minlength=contexts)
    return NgramCounts(followed[pair[n:]].double(), seen[context[n:]].double(), vocab_size)
