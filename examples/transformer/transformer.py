"""A small decoder-only transformer, of the kind that Karpathy's makemore.py trains."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from makemore import ModelConfig


@dataclass(frozen=True)
class Transformer(ModelConfig):
    """Pre-norm blocks of causal self-attention and a GELU layer (Vaswani et al. 2017; Radford et al. 2019)."""

    block_size: int  # the longest context, in characters
    embedding_size: int  # a multiple of `heads`
    layers: int
    heads: int
    dropout: float = 0.0

    every_position: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size is {self.embedding_size}; it must be a multiple of heads, {self.heads}")

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        """An untrained network."""
        return TransformerNetwork(self, vocab_size)


class TransformerNetwork(nn.Module):
    """Characters (n, block_size) int64 to logits (n, block_size, vocab_size) of the next character at each position."""

    def __init__(self, config: Transformer, vocab_size: int) -> None:
        super().__init__()
        size = config.embedding_size
        self.characters = nn.Embedding(vocab_size, size)
        self.positions = nn.Parameter(0.02 * torch.randn(config.block_size, size))
        layer = nn.TransformerEncoderLayer(
            size, config.heads, 4 * size, config.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(size), enable_nested_tensor=False)
        self.logits = nn.Linear(size, vocab_size)
        mask = nn.Transformer.generate_square_subsequent_mask(config.block_size)
        self.register_buffer("mask", mask, persistent=False)  # no position sees a later one

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, block_size, vocab_size)."""
        hidden = self.characters(x) + self.positions
        return self.logits(self.blocks(hidden, mask=self.mask, is_causal=True))
