"""Intervals for mean losses. A word's characters are not independent, so words are what is drawn again."""

import torch
from torch import Tensor

_NUMBERS = 4_000_000  # drawn at a time


def intervals(
    losses: Tensor, characters: Tensor, generator: torch.Generator, level: float = 0.95, draws: int = 10_000
) -> list[tuple[float, float]]:
    """Percentile-bootstrap intervals of mean losses per character (Efron 1979), from the same draws for all.

    Args:
        losses: of each word, its characters' summed, or the difference of two models' such losses, (n, k).
        characters: of each word, (n,).

    Returns:
        (low, high) of each of the k.
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
