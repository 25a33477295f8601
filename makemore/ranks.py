"""Ranks of rows of tokens: they sort rows and tell which are equal."""

from collections.abc import Iterable

import torch
from torch import Tensor


def rank_rows(columns: Iterable[Tensor], rows: int, vocab_size: int) -> tuple[int, Tensor]:
    """The number of distinct rows of tokens, and the lexicographic rank of each row, (rows,) int64.

    Args:
        columns: the tokens of all rows, a column (rows,) at a time.
    """
    key = torch.zeros(rows, dtype=torch.int64)
    largest = 1  # exclusive bound of the keys so far
    for column in columns:
        if largest * vocab_size >= 2**62:  # long rows: replace prefixes by their ranks, so that keys fit into int64
            key = torch.unique(key, return_inverse=True)[1]
            largest = rows
        key.mul_(vocab_size).add_(column)
        largest *= vocab_size
    distinct, rank = torch.unique(key, return_inverse=True)
    return len(distinct), rank
