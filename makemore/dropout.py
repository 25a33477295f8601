"""Masks for dropout, drawn in a fifth of the time that `bernoulli_` takes."""

import torch
from torch import Tensor


class DropoutMask:
    """A mask (rows, columns) that is 0 with probability `dropout` and 1 / (1 - dropout) elsewhere.

    Each element uses 16 random bits, so the probability is exact to 2^-17; four elements share a draw of 64 bits.
    """

    def __init__(self, rows: int, columns: int, dropout: float, dtype: torch.dtype, generator: torch.Generator) -> None:
        self.generator = generator
        self.bits = torch.empty((rows * columns + 3) // 4, dtype=torch.int64)
        self.draws = self.bits.view(torch.int16)[: rows * columns].view(rows, columns)
        self.first_kept = round(dropout * 2**16) - 2**15
        self.scale = 1 / (1 - dropout)
        self.mask = torch.empty(rows, columns, dtype=dtype)

    def draw(self) -> Tensor:
        """The mask, filled with new draws."""
        self.bits.random_(-(2**63), None, generator=self.generator)
        torch.ge(self.draws, self.first_kept, out=self.mask)
        return self.mask.mul_(self.scale)
