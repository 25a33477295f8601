"""Intervals for a mean loss. A word's characters are not independent, so words are what is drawn again."""

import torch
from torch import Tensor

_NUMBERS = 4_000_000  # drawn at a time


def interval(
    losses: Tensor, characters: Tensor, generator: torch.Generator, level: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """A percentile-bootstrap interval of the mean loss per character (Efron 1979).

    Args:
        losses: of each word, its characters' summed, (n,); or differences of two models' such losses.
        characters: of each word, (n,).
    """
    n = len(losses)
    means = []
    chunk = max(1, _NUMBERS // n)
    for done in range(0, draws, chunk):
        drawn = torch.randint(n, (min(chunk, draws - done), n), generator=generator)
        means.append(losses[drawn].sum(1) / characters[drawn].sum(1))
    tail = (1 - level) / 2
    low, high = torch.quantile(torch.cat(means), torch.tensor([tail, 1 - tail], dtype=losses.dtype)).tolist()
    return low, high
