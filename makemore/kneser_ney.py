"""Interpolated Kneser-Ney smoothing of next-character counts (Kneser and Ney 1995; Chen and Goodman 1999)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from makemore.contexts import DistinctContexts, entries_of, rank_rows


@dataclass(frozen=True)
class _Order:
    """One order of the model, its entries sparse as in DistinctContexts.

    P(w | context) = (count(context, w) - discount)+ / total(context) + backoff(context) P(w | context less one).
    """

    parent: Tensor  # the context one character shorter, in the order below, (contexts,) int32
    offsets: Tensor  # (contexts + 1,) int64
    next_tokens: Tensor  # (entries,) of the contexts' dtype
    probabilities: Tensor  # the first term, (entries,) float32
    backoff: Tensor  # discount * distinct next characters / total, (contexts,) float32


class KneserNey:
    """Next-character distributions of a split's distinct contexts, smoothed towards those of shorter contexts.

    What follows a shorter context is counted by how many different characters precede the two, not by how often
    they occur. A context that starts at the boundary is no exception, though nothing else precedes it: keeping the
    occurrences there is worse (docs/log.md).
    """

    def __init__(self, contexts: DistinctContexts, discount: float) -> None:
        self.vocab_size = vocab_size = contexts.vocab_size
        self._orders: list[_Order] = []  # from the whole context down to one character
        x = contexts.x
        row = torch.repeat_interleave(contexts.offsets.diff())
        token, count = contexts.next_tokens, contexts.counts
        while x.shape[1] > 0:
            shorter = x[:, 1:]
            size, parent = rank_rows(shorter.unbind(1), len(x), vocab_size)
            self._orders.append(_discounted(row, token, count, parent, discount))
            # Each entry of the longer order has another character before the shorter context.
            pair, count = torch.unique(parent[row] * vocab_size + token, return_counts=True)
            row, token = pair // vocab_size, (pair % vocab_size).to(x.dtype)
            x = torch.empty(size, shorter.shape[1], dtype=x.dtype).index_copy_(0, parent, shorter)
        characters = torch.zeros(vocab_size).index_add_(0, token.long(), count.float())
        above = (characters - discount).clamp_(min=0)
        self._base = (above + (characters.sum() - above.sum()) / vocab_size) / characters.sum()

    def targets(self, contexts: Tensor) -> Tensor:
        """Smoothed distributions of the contexts (k,), as (k, vocab_size) float32 rows."""
        chain = [contexts]
        for order in self._orders:
            chain.append(order.parent[chain[-1]].long())
        table = self._base.expand(len(contexts), -1).clone()
        for order, places in zip(reversed(self._orders), reversed(chain[:-1]), strict=True):
            table.mul_(order.backoff[places].unsqueeze(1))
            row, entry = entries_of(order.offsets, places)
            table[row, order.next_tokens[entry].long()] += order.probabilities[entry]
        return table


def _discounted(row: Tensor, token: Tensor, count: Tensor, parent: Tensor, discount: float) -> _Order:
    """One order from its entries, which stand in the order of their contexts."""
    contexts = len(parent)
    lengths = torch.bincount(row, minlength=contexts)
    total = torch.zeros(contexts).index_add_(0, row, count.float())
    probabilities = (count.float() - discount).clamp_(min=0) / total[row]
    kept = torch.zeros(contexts).index_add_(0, row, probabilities)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return _Order(parent.int(), offsets, token, probabilities, 1 - kept)
