"""The exact loss of a model on a split, and on each of its words."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makemore.contexts import DistinctContexts, build_examples, distinct_contexts, entries_of
from makemore.data import Alphabet
from makemore.sequences import sequences_of

_NUMBERS = 500_000  # of hidden layer and logits at a time: 2 MB, which stay in cache


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights, or of its tables of counts."""
    return next(chain(model.parameters(), model.buffers())).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While inside, the module is in evaluation mode: no dropout."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def next_logits(model: nn.Module, x: Tensor, every_position: bool) -> Tensor:
    """Logits of the next character, (n, vocab_size).

    Args:
        x: contexts, (n, block_size) int64 on the model's device, padded on the left with the boundary, token 0.
        every_position: whether the module gives logits at every position.
    """
    if not every_position:
        return model(x)  # type: ignore[no-any-return]
    sequences, position = sequences_of(x)
    logits: Tensor = model(sequences)
    return logits[torch.arange(len(x), device=x.device), position]


@torch.no_grad()
def mean_loss(model: nn.Module, contexts: DistinctContexts, every_position: bool = False) -> float:
    """Mean negative log-likelihood of a split, in nats per character.

    Every example counts once: each distinct context is evaluated once and weighted by its counts.

    Raises:
        ValueError: the split is empty.
    """
    if len(contexts) == 0:
        raise ValueError("the split has no examples; its mean loss does not exist")
    total = torch.zeros((), dtype=torch.float64)
    examples = 0
    with evaluating(model):
        for entries, log_likelihoods in _log_likelihoods(model, contexts, every_position):
            counts = contexts.counts[entries]
            total -= (log_likelihoods.double() * counts).sum()
            examples += int(counts.sum())
    return float(total) / examples


@torch.no_grad()
def word_losses(
    model: nn.Module, words: Sequence[str], alphabet: Alphabet, block_size: int, every_position: bool = False
) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each word, in nats, and its number of next characters; both (n,) float64.

    The boundary that ends a word is one of its next characters.
    """
    examples = build_examples(words, alphabet, block_size)
    contexts = distinct_contexts(examples)
    losses = torch.empty(len(contexts.next_tokens), dtype=torch.float64)  # of each pair of context and next character
    with evaluating(model):
        for entries, log_likelihoods in _log_likelihoods(model, contexts, every_position):
            losses[entries] = -log_likelihoods.double()
    next_characters = examples.y(torch.arange(len(examples)))
    return sum_by_word(losses[contexts.entry_of(contexts.index.long(), next_characters)], words)


def sum_by_word(losses: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Sum of each word's losses, given the loss of each example, and its number of examples; both (n,) float64."""
    characters = torch.tensor([len(word) + 1 for word in words])
    word = torch.repeat_interleave(characters)
    return torch.zeros(len(words), dtype=torch.float64).index_add_(0, word, losses), characters.double()


def _log_likelihoods(
    model: nn.Module, contexts: DistinctContexts, every_position: bool
) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """The entries of the contexts, a block at a time, and the log-likelihood of each entry's next character."""
    device = device_of(model)
    widest = max((weight.shape[-1] for weight in model.parameters() if weight.dim()), default=contexts.vocab_size)
    rows = max(1, _NUMBERS // widest)
    if not every_position:
        for x, row, entries in contexts.blocks(rows):
            log_softmax = F.log_softmax(model(x.to(device)), dim=1).cpu()
            yield entries, log_softmax[row, contexts.next_tokens[entries].long()]
        return
    sequences = contexts.sequences
    for block in torch.split(torch.arange(len(sequences)), max(1, rows // sequences.x.shape[1])):
        logits = model(sequences.x[block].long().to(device)).cpu()
        sequence, place = entries_of(sequences.offsets, block)
        row, entries_in_block = entries_of(contexts.offsets, sequences.context[place])
        log_softmax = F.log_softmax(logits[sequence, sequences.position[place]], dim=1)
        yield entries_in_block, log_softmax[row, contexts.next_tokens[entries_in_block].long()]
