"""Models as a stranger writes them: torch's own layers, and nothing of this project but the base class."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from makemore import ModelConfig


@dataclass(frozen=True)
class Feedforward(ModelConfig):
    """Contexts in, logits of the next character out."""

    block_size: int = 3
    embedding_size: int = 8
    hidden_neurons: int = 32
    dropout: float = 0.1

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(vocab_size, self.embedding_size),
            nn.Flatten(),
            nn.Linear(self.block_size * self.embedding_size, self.hidden_neurons),
            nn.BatchNorm1d(self.hidden_neurons),
            nn.Tanh(),
            nn.Dropout(self.dropout),
            nn.Linear(self.hidden_neurons, vocab_size),
        )


class GRUModule(nn.Module):
    def __init__(self, config: "GRU", vocab_size: int) -> None:
        super().__init__()
        directions = 2 if config.bidirectional else 1
        self.embedding = nn.Embedding(vocab_size, config.embedding_size)
        self.gru = nn.GRU(
            config.embedding_size, config.hidden_neurons, batch_first=True, bidirectional=config.bidirectional
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(directions * config.hidden_neurons, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        hidden, _ = self.gru(self.embedding(x))
        logits: Tensor = self.head(self.dropout(hidden))
        return logits


@dataclass(frozen=True)
class GRU(ModelConfig):
    """Sequences in, logits at every position out."""

    block_size: int = 8
    embedding_size: int = 8
    hidden_neurons: int = 32
    dropout: float = 0.1
    bidirectional: bool = False
    every_position: ClassVar[bool] = True

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        return GRUModule(self, vocab_size)
