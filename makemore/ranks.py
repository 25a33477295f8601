"""Ranks of rows of tokens, for sorting them and for telling the distinct ones."""

from collections.abc import Iterable

import torch
from torch import Tensor


def rank_rows(columns: Iterable[Tensor], rows: int, vocab_size: int) -> tuple[int, Tensor]:
    """How many distinct rows of tokens there are, and the lexicographic rank of each row, (rows,) int64."""
    key = torch.zeros(rows, dtype=torch.int64)
    largest = 1  # exclusive bound of the keys so far
    for column in columns:
        if largest * vocab_size >= 2**62:  # long rows: rank the prefixes, so that keys keep fitting into int64
            key = torch.unique(key, return_inverse=True)[1]
            largest = rows
        key.mul_(vocab_size).add_(column)
        largest *= vocab_size
    distinct, rank = torch.unique(key, return_inverse=True)
    return len(distinct), rank
