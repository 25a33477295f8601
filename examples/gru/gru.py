"""A recurrent network in place of the MLP: it reads a word character by character."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from makemore import ModelConfig


@dataclass(frozen=True)
class GRU(ModelConfig):
    """One layer of gated recurrent units (Cho et al. 2014) over an embedding of the characters."""

    block_size: int  # the longest context, in characters
    embedding_size: int
    hidden_neurons: int
    dropout: float = 0.0

    every_position: ClassVar[bool] = True  # logits come for each position of a word, not for one context

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        """An untrained network."""
        return GRUNetwork(self, vocab_size)


class GRUNetwork(nn.Module):
    """Characters (n, block_size) int64 to logits (n, block_size, vocab_size) of the next character at each position."""

    def __init__(self, config: GRU, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_size)
        self.gru = nn.GRU(config.embedding_size, config.hidden_neurons, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.logits = nn.Linear(config.hidden_neurons, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, block_size, vocab_size)."""
        hidden, _ = self.gru(self.embedding(x))
        return self.logits(self.dropout(hidden))
