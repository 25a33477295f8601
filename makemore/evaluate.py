"""The exact loss of a model on a split, and on each of its words."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makemore.contexts import DistinctContexts, build_examples
from makemore.data import Alphabet

_NUMBERS = 500_000  # of hidden layer and logits at a time: 2 MB, which stay in cache


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights, or its tables of counts, are."""
    return next(chain(model.parameters(), model.buffers())).device


@torch.no_grad()
def mean_loss(model: nn.Module, contexts: DistinctContexts) -> float:
    """Mean negative log-likelihood of a split, in nats per character.

    Every example counts once: each distinct context is evaluated once and weighted by its counts.

    Raises:
        ValueError: the split is empty.
    """
    if len(contexts) == 0:
        raise ValueError("the split has no examples; its mean loss does not exist")
    device = device_of(model)
    widest = max((parameter.shape[-1] for parameter in model.parameters()), default=contexts.vocab_size)
    total = torch.zeros((), dtype=torch.float64)
    examples = 0
    for x, row, token, count in contexts.blocks(max(1, _NUMBERS // widest)):
        log_likelihood = F.log_softmax(model(x.to(device)), dim=1).cpu()[row, token]
        total -= (log_likelihood.double() * count).sum()
        examples += int(count.sum())
    return float(total) / examples


@torch.no_grad()
def count_impossible(model: nn.Module, contexts: DistinctContexts) -> int:
    """How many next characters of a split have probability zero."""
    blocks = contexts.blocks(max(1, _NUMBERS // contexts.vocab_size))
    return sum(int(count[model(x)[row, token].isneginf()].sum()) for x, row, token, count in blocks)


@torch.no_grad()
def word_losses(model: nn.Module, words: Sequence[str], alphabet: Alphabet, block_size: int) -> tuple[Tensor, Tensor]:
    """Of each word its negative log-likelihood in nats, and its characters and the boundary counted; (n,) float64."""
    examples = build_examples(words, alphabet, block_size)
    device = device_of(model)
    losses = []
    for index in torch.split(torch.arange(len(examples)), 65_536):
        logits = model(examples.x(index).to(device)).cpu()
        losses.append(F.cross_entropy(logits, examples.y(index), reduction="none"))
    return sum_by_word(torch.cat(losses).double(), words)


def sum_by_word(losses: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each word the sum of its examples' losses, and its characters and the boundary counted; (n,) float64."""
    characters = torch.tensor([len(word) + 1 for word in words])
    word = torch.repeat_interleave(characters)
    return torch.zeros(len(words), dtype=torch.float64).index_add_(0, word, losses), characters.double()
