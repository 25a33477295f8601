"""Interpolated Kneser-Ney smoothing of next-character counts (Kneser and Ney 1995; Chen and Goodman 1999)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from makemore.contexts import DistinctContexts, entries_of
from makemore.ranks import rank_rows


@dataclass(frozen=True)
class Order:
    """The contexts of one length in train, in lexicographic order, with sparse entries as in DistinctContexts.

    P(w | context) = probability(context, w) + backoff(context) P(w | context without its oldest character). After the
    last context comes one that stands for every context that train lacks: it has no entries, and its backoff is 1.
    """

    oldest: Tensor  # character of each context, (contexts,) of the contexts' dtype
    parent: Tensor  # index of the context without that character among the shorter contexts, (contexts,) int32
    offsets: Tensor  # (contexts + 2,) int64
    next_tokens: Tensor  # (entries,) of the contexts' dtype
    probabilities: Tensor  # the first term, (entries,) float32
    backoff: Tensor  # (contexts + 1,) float32

    def extend(self, table: Tensor, places: Tensor) -> None:
        """Turn P(. | shorter context), (k, vocab_size), in place into P(. | context) of contexts `places`, (k,)."""
        table.mul_(self.backoff[places].unsqueeze(1))
        row, entry = entries_of(self.offsets, places)
        table[row, self.next_tokens[entry].long()] += self.probabilities[entry]


def make_order(
    oldest: Tensor, parent: Tensor, row: Tensor, token: Tensor, probabilities: Tensor, backoff: Tensor
) -> Order:
    """An order from its entries, sorted by their contexts `row`, and the backoff of each context."""
    lengths = torch.bincount(row, minlength=len(parent) + 1)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Order(oldest.clone(), parent.int(), offsets, token, probabilities, torch.cat([backoff, torch.ones(1)]))


def shorten(x: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """The distinct rows of x (m, length) without the oldest character, and the index of each x among them."""
    shorter = x[:, 1:]
    size, parent = rank_rows(shorter.unbind(1), len(x), vocab_size)
    return torch.empty(size, shorter.shape[1], dtype=x.dtype).index_copy_(0, parent, shorter), parent


class KneserNey:
    """Next-character distributions of a split's distinct contexts, smoothed towards those of shorter contexts.

    A shorter context and its next character count as often as different characters precede them, not as often as they
    occur. This also holds for contexts that start at the boundary, which nothing else precedes: counting occurrences
    there gives a worse loss (docs/log.md).
    """

    def __init__(self, contexts: DistinctContexts, discount: float) -> None:
        self.vocab_size = vocab_size = contexts.vocab_size
        self.orders: list[Order] = []  # from one character up to the whole context
        x = contexts.x
        row = torch.repeat_interleave(contexts.offsets.diff())
        token, count = contexts.next_tokens, contexts.counts
        while x.shape[1] > 0:
            shorter, parent = shorten(x, vocab_size)
            probabilities, backoff = _discounted(row, count, len(x), discount)
            self.orders.insert(0, make_order(x[:, 0], parent, row, token, probabilities, backoff))
            # Each entry of the longer order has a different character before the shorter context.
            pair, count = torch.unique(parent[row] * vocab_size + token, return_counts=True)
            row, token = pair // vocab_size, (pair % vocab_size).to(x.dtype)
            x = shorter
        characters = torch.zeros(vocab_size).index_add_(0, token.long(), count.float())
        above = (characters - discount).clamp_(min=0)
        self.base = (above + (characters.sum() - above.sum()) / vocab_size) / characters.sum()

    def targets(self, contexts: Tensor) -> Tensor:
        """Smoothed distributions of the contexts (k,), as (k, vocab_size) float32 rows."""
        chain = [contexts]
        for order in reversed(self.orders[1:]):
            chain.append(order.parent[chain[-1]].long())
        table = self.base.expand(len(contexts), -1).clone()
        for order, places in zip(self.orders, reversed(chain), strict=True):
            order.extend(table, places)
        return table


def _discounted(row: Tensor, count: Tensor, contexts: int, discount: float) -> tuple[Tensor, Tensor]:
    """(count - discount)+ / total of each entry, and the probability that this leaves in each context.

    Without a discount nothing is left; a remainder that comes from rounding is dropped.
    """
    total = torch.zeros(contexts).index_add_(0, row, count.float())
    probabilities = (count.float() - discount).clamp_(min=0) / total[row]
    left = 1 - torch.zeros(contexts).index_add_(0, row, probabilities)
    return probabilities, left.clamp_(min=0) if discount else torch.zeros(contexts)
