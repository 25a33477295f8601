"""The neural language model of Bengio et al. 2003, without direct connections from embeddings to logits."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from makemore.limits import check


@dataclass(frozen=True)
class MLPConfig:
    """Shape of an MLP: `block_size` characters of context, `embedding_size` numbers each, one hidden layer."""

    block_size: int
    embedding_size: int
    hidden_neurons: int
    dropout: float  # of the hidden layer, while training

    def __post_init__(self) -> None:
        check("block_size", self.block_size, low=1, high=64)
        check("embedding_size", self.embedding_size, low=1, high=4096)
        check("hidden_neurons", self.hidden_neurons, low=1, high=65536)
        check("dropout", self.dropout, low=0, high=0.99)

    def parameters(self, vocab_size: int) -> int:
        """Trainable numbers in the model."""
        inputs = self.block_size * self.embedding_size
        return vocab_size * self.embedding_size + (inputs + 1 + vocab_size) * self.hidden_neurons + vocab_size


class MLP(nn.Module):
    """logits = tanh(concat(C[x]) W1 + b1) W2 + b2, the parameters as in the lecture.

    C (vocab_size, embedding_size), W1 (block_size * embedding_size, hidden_neurons), b1 (hidden_neurons,),
    W2 (hidden_neurons, vocab_size), b2 (vocab_size,).
    """

    def __init__(self, config: MLPConfig, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        inputs, hidden = config.block_size * config.embedding_size, config.hidden_neurons

        def normal(rows: int, columns: int, deviation: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * deviation)

        self.C = normal(vocab_size, config.embedding_size, 1.0)
        self.W1 = normal(inputs, hidden, 1 / math.sqrt(inputs))  # unit-variance inputs to tanh: few of them saturate
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.W2 = normal(hidden, vocab_size, 0.1 / math.sqrt(hidden))  # small logits: the first loss is log(vocab_size)
        self.b2 = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (n, vocab_size) of contexts x, (n, block_size) int64 in [0, vocab_size).

        `mask` (n, hidden_neurons) multiplies the hidden layer: 0 where dropped, 1 / (1 - dropout) elsewhere.
        """
        embeddings = self.C[x].flatten(1)
        h = torch.tanh(embeddings @ self.W1 + self.b1)
        if mask is not None:
            h = h * mask
        return h @ self.W2 + self.b2

    @property
    def decayed(self) -> list[nn.Parameter]:
        """What weight decay shrinks: the matrices, not the biases."""
        return [self.C, self.W1, self.W2]
