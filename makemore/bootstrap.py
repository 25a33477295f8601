"""Intervals for mean losses. The characters of a word are not independent, so whole words are resampled."""

import torch
from torch import Tensor

_NUMBERS = 4_000_000  # indices drawn at a time: it bounds the memory


def intervals(
    losses: Tensor, characters: Tensor, generator: torch.Generator, level: float = 0.95, draws: int = 10_000
) -> list[tuple[float, float]]:
    """Percentile-bootstrap intervals of k mean losses per character (Efron 1979), as k pairs (low, high).

    All k intervals use the same draws.

    Args:
        losses: each word's loss summed over its characters, or the difference of two models' losses, (n, k).
        characters: the number of characters of each word, (n,).
    """
    n, k = losses.shape
    summed = torch.cat([losses, characters.unsqueeze(1)], dim=1)
    means = []
    chunk = max(1, _NUMBERS // n)
    for done in range(0, draws, chunk):
        drawn = torch.randint(n, (min(chunk, draws - done), n), generator=generator)
        times = torch.zeros(drawn.shape, dtype=losses.dtype).scatter_add_(1, drawn, losses.new_ones(1).expand_as(drawn))
        sums = times @ summed
        means.append(sums[:, :k] / sums[:, k:])
    tail = (1 - level) / 2
    low, high = torch.quantile(torch.cat(means), torch.tensor([tail, 1 - tail], dtype=losses.dtype), dim=0).tolist()
    return list(zip(low, high, strict=True))
