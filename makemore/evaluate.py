"""The exact loss of a model on a split."""

import torch
from torch import nn
from torch.nn import functional as F

from makemore.contexts import DistinctContexts

_NUMBERS = 500_000  # of hidden layer and logits at a time: 2 MB, which stay in cache


@torch.no_grad()
def mean_loss(model: nn.Module, contexts: DistinctContexts) -> float:
    """Mean negative log-likelihood of a split, in nats per character.

    Every example counts once: each distinct context is evaluated once and weighted by its counts.

    Raises:
        ValueError: the split is empty.
    """
    if len(contexts) == 0:
        raise ValueError("the split has no examples; its mean loss does not exist")
    device = next(model.parameters()).device
    widest = max(parameter.shape[-1] for parameter in model.parameters())
    total = torch.zeros((), dtype=torch.float64)
    examples = 0
    for x, row, token, count in contexts.blocks(max(1, _NUMBERS // widest)):
        log_likelihood = F.log_softmax(model(x.to(device)), dim=1).cpu()[row, token]
        total -= (log_likelihood.double() * count).sum()
        examples += int(count.sum())
    return float(total) / examples
