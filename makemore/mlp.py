"""The neural language model of Bengio et al. 2003, with or without direct connections from embeddings to logits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makemore.autograd_step import AutogradStep
from makemore.dropout import DropoutMask
from makemore.fast_step import FastStep
from makemore.limits import LimitError, check
from makemore.model import ModelConfig
from makemore.optimizer import Optimizer
from makemore.train import Stepper, TrainConfig, generator_for

INITIALIZATIONS = ("scaled", "normal")


@dataclass(frozen=True)
class MLPConfig(ModelConfig):
    """Shape of an MLP: `block_size` characters of context, `embedding_size` numbers each, a hidden layer or none."""

    block_size: int
    embedding_size: int
    hidden_neurons: int  # 0: no hidden layer
    dropout: float  # of the hidden layer, while training
    direct: bool = False  # connections from the embeddings to the logits; always there without a hidden layer
    # "scaled": small logits, and inputs of tanh with unit variance; "normal": all from N(0, 1), as the lecture starts.
    initialization: str = "scaled"
    overfitting_cure: ClassVar[str] = "more optimizer.weight_decay or model.dropout, or fewer model.hidden_neurons"
    underfitting_cure: ClassVar[str] = (
        "more model.hidden_neurons, a larger model.embedding_size, or a longer model.block_size"
    )

    def __post_init__(self) -> None:
        if self.initialization not in INITIALIZATIONS:
            raise LimitError("initialization", self.initialization, " or ".join(INITIALIZATIONS))
        check("block_size", self.block_size, low=1, high=64)
        check("embedding_size", self.embedding_size, low=1, high=4096)
        check("hidden_neurons", self.hidden_neurons, low=0, high=65536)
        check("dropout", self.dropout, low=0, high=0.99)

    @property
    def connects(self) -> bool:
        """Whether embeddings are connected to the logits directly."""
        return self.direct or self.hidden_neurons == 0

    def build(self, vocab_size: int, generator: torch.Generator) -> "MLP":
        """An MLP with initial weights."""
        return MLP(self, vocab_size, generator)

    def check(self, vocab_size: int) -> None:
        """Does nothing: the tests of this package cover the model."""

    def parameters(self, vocab_size: int) -> int:
        """Trainable numbers in the model."""
        inputs = self.block_size * self.embedding_size
        hidden = (inputs + 1 + vocab_size) * self.hidden_neurons
        return vocab_size * self.embedding_size + hidden + vocab_size + self.connects * inputs * vocab_size

    def decayed(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters that weight decay acts on."""
        return cast(MLP, model).decayed

    def make_step(self, model: nn.Module, optimizer: Optimizer, config: TrainConfig, seed: int, device: str) -> Stepper:
        """The fast step on a CPU, and automatic differentiation elsewhere."""
        mlp, dropout_generator = cast(MLP, model), generator_for(seed, "dropout")
        if device == "cpu":
            return FastStep(mlp, optimizer, dropout_generator, config.precision)
        return MLPAutogradStep(mlp, optimizer, dropout_generator)

    def embedding(self, model: nn.Module) -> Tensor:
        """C, (vocab_size, embedding_size)."""
        return cast(MLP, model).C

    @torch.no_grad()
    def saturated(self, model: nn.Module, x: Tensor) -> float:
        """Share of tanh values beyond 0.99, for contexts x (n, block_size); 0 without a hidden layer."""
        mlp = cast(MLP, model)
        hidden = torch.tanh(mlp.C[x].flatten(1) @ mlp.W1 + mlp.b1)
        return float((hidden.abs() > 0.99).sum()) / max(1, hidden.numel())


class MLP(nn.Module):
    """logits = tanh(concat(C[x]) W1 + b1) W2 + b2, the parameters as in the lecture, and + concat(C[x]) D where direct.

    C (vocab_size, embedding_size), W1 (block_size * embedding_size, hidden_neurons), b1 (hidden_neurons,),
    W2 (hidden_neurons, vocab_size), b2 (vocab_size,), D (block_size * embedding_size, vocab_size) or None. Without a
    hidden layer, W1, b1 and W2 are empty, and logits = concat(C[x]) D + b2.
    """

    def __init__(self, config: MLPConfig, vocab_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        inputs, hidden = config.block_size * config.embedding_size, config.hidden_neurons

        scaled = config.initialization == "scaled"

        def normal(*shape: int, deviation: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * (deviation if scaled else 1.0))

        def bias(size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size)) if scaled else normal(size, deviation=1.0)

        self.C = normal(vocab_size, config.embedding_size, deviation=1.0)
        self.W1 = normal(inputs, hidden, deviation=1 / math.sqrt(inputs))  # few tanh neurons saturate
        self.b1 = bias(hidden)
        self.W2 = normal(hidden, vocab_size, deviation=0.1 / math.sqrt(max(hidden, 1)))  # first loss: log(vocab_size)
        self.b2 = bias(vocab_size)
        self.D = normal(inputs, vocab_size, deviation=0.1 / math.sqrt(inputs)) if config.connects else None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (n, vocab_size) of contexts x, (n, block_size) int64 in [0, vocab_size).

        `mask` (n, hidden_neurons) multiplies the hidden layer: 0 where dropped, 1 / (1 - dropout) elsewhere.
        """
        if mask is None and not torch.is_grad_enabled() and len(x) > len(self.C):
            return self._evaluate(x)
        embeddings = self.C[x].flatten(1)
        h = torch.tanh(embeddings @ self.W1 + self.b1)
        if mask is not None:
            h = h * mask
        logits = h @ self.W2 + self.b2
        return logits if self.D is None else logits + embeddings @ self.D

    def _evaluate(self, x: Tensor) -> Tensor:
        """The same logits of many contexts in half the time: the first layer sums a row of C @ W1 for each position.

        tanh(z) is computed as 2 sigmoid(2z) - 1, which is several times as fast on some processors.
        """
        vocab_size, (block_size, size) = len(self.C), (self.config.block_size, self.config.embedding_size)
        places = x + vocab_size * torch.arange(block_size, device=x.device)

        def first(W: Tensor) -> Tensor:
            tables = self.C @ W.view(block_size, size, -1)  # (block_size, vocab_size, columns)
            return F.embedding_bag(places, tables.flatten(0, 1), mode="sum")

        logits = self.b2.expand(len(x), -1) if self.D is None else first(self.D) + self.b2
        if self.config.hidden_neurons == 0:
            return logits
        h = first(self.W1).add_(self.b1).mul_(2).sigmoid_().mul_(2).sub_(1)
        return logits + h @ self.W2

    @property
    def decayed(self) -> list[nn.Parameter]:
        """The parameters that weight decay shrinks: the matrices, not the biases.

        Without a hidden layer it shrinks b2 too. Weight decay then does what smoothing does to counts: it draws the
        model towards the uniform distribution, which biases without decay would prevent.
        """
        matrices = [self.C, self.W1, self.W2] + ([] if self.D is None else [self.D])
        return matrices if self.config.hidden_neurons else [*matrices, self.b2]


class MLPAutogradStep(AutogradStep):
    """Training steps of an MLP by automatic differentiation: what the fast step must agree with."""

    def __init__(self, model: MLP, optimizer: Optimizer, dropout_generator: torch.Generator) -> None:
        super().__init__(model, optimizer, model.decayed, dropout_generator)
        self.mlp, self.dropout_generator = model, dropout_generator

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, beside the module's own state."""
        return {**super().state(), "dropout": self.dropout_generator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where other steps stood."""
        super().restore(state)
        self.dropout_generator.set_state(state["dropout"])

    def logits(self, x: Tensor) -> Tensor:
        """The MLP's logits of one minibatch x, with a dropout mask of the fast step's kind."""
        W1, dropout = self.mlp.W1, self.mlp.config.dropout
        if dropout == 0:
            return self.mlp(x)  # type: ignore[no-any-return]
        mask = DropoutMask(len(x), W1.shape[1], dropout, W1.dtype, self.dropout_generator)
        return self.mlp(x, mask.draw().to(W1.device))  # type: ignore[no-any-return]
