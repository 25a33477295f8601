"""The training step with hand-derived gradients: the same updates as `AutogradStep`, several times as fast.

A step is about twenty calls into torch. They write into memory that is allocated once for a batch size, and all
parameters lie in one flat tensor, so that one call updates them. `fast_gradient.py` computes the gradients.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from makemore.dropout import DropoutMask
from makemore.fast_gradient import Backpropagation, Parameters
from makemore.limits import LimitError
from makemore.optimizer import SGD, AdamW, Optimizer

if TYPE_CHECKING:
    from makemore.mlp import MLP

PRECISIONS = ("float32", "bfloat16", "auto")
FIRST_LAYERS = ("direct", "table", "auto")
_PIECE_NUMBERS = 400_000  # targets and indices that are prepared together, at most: few calls, little memory


def table_pays(batch_size: int, block_size: int, embedding_size: int, hidden_neurons: int, vocab_size: int) -> bool:
    """Whether the first layer is faster as a `TableLayer` than as a `DirectLayer`.

    Fitted to 1,090 random sizes on two AVX-512 cores; its choices took 1 % more time than the faster layer.
    """
    saved = embedding_size * (batch_size - vocab_size)  # multiplications; gathering a number costs as much as five
    return block_size * hidden_neurons * (saved - 5 * batch_size) > 100_000


def bfloat16_pays(batch_size: int, block_size: int, embedding_size: int, hidden_neurons: int, vocab_size: int) -> bool:
    """Whether bfloat16 products are faster: the processor supports them, and they save more time than rounding costs.

    Fitted to 500 random sizes with AVX-512 BF16, where such products take half the time. With matrix units (AMX) they
    should take less still.
    """
    processor = torch.cpu.get_capabilities()
    if not (processor.get("amx_bf16") or processor.get("avx512_bf16")):
        return False
    direct = not table_pays(batch_size, block_size, embedding_size, hidden_neurons, vocab_size)
    per_neuron = vocab_size + direct * block_size * embedding_size
    return batch_size * hidden_neurons * (per_neuron - 16 * (1 + direct)) > 8_000_000


class FastStep:
    """Takes training steps on a model on the CPU, in place.

    From then on the model's parameters are views of one flat tensor. W1, D and W2 may be strided views: a file format
    that wants contiguous tensors needs `.contiguous()`.

    Args:
        precision: of the large products. "bfloat16" bfloat16 their operands and results and nothing else: the weights,
            the optimiser, tanh and softmax stay float32. "auto" is "bfloat16" where `bfloat16_pays`, else "float32".
        first_layer: how the first layer is computed. "auto" is "table" where `table_pays`, else "direct". The choice
            affects speed, and results only by rounding.
        piece_steps: how many steps may be prepared together; large minibatches get fewer.

    Raises:
        LimitError: the precision or the first layer is unknown, the model is not float32 although the precision is
            bfloat16, or the model is not on the CPU.
    """

    def __init__(
        self,
        model: "MLP",
        optimizer: Optimizer,
        dropout_generator: torch.Generator,
        precision: str = "float32",
        *,
        first_layer: str = "auto",
        piece_steps: int = 128,
    ) -> None:
        if precision not in PRECISIONS:
            raise LimitError("precision", precision, " or ".join(PRECISIONS))
        if first_layer not in FIRST_LAYERS:
            raise LimitError("first_layer", first_layer, " or ".join(FIRST_LAYERS))
        if precision == "bfloat16" and model.C.dtype != torch.float32:
            raise LimitError("precision", precision, f"float32 for a model of {model.C.dtype}")
        if model.C.device.type != "cpu":
            raise LimitError("device", model.C.device, "cpu")
        self.model, self.dropout_generator = model, dropout_generator
        self.precision, self.first_layer, self.piece_steps = precision, first_layer, piece_steps
        self.weights = flatten_parameters(model)
        self.gradient = self.weights.views_of(torch.zeros_like(self.weights.flat))
        decayed = self.weights.flat[: sum(parameter.numel() for parameter in model.decayed)]
        self.update = make_update(optimizer, self.weights.flat, decayed, self.gradient.flat)
        self.backpropagation: Backpropagation | None = None  # for the batch size of the latest run

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,).

        Args:
            x: contexts, (steps, batch_size, block_size) int64.
            y: next characters, (steps, batch_size) int64, or their distributions,
                (steps, batch_size, vocab_size) float.
            lr: learning rates, one a step.
        """
        losses = torch.empty(len(lr), dtype=self.weights.flat.dtype)
        with torch.inference_mode():
            if self.backpropagation is None or self.backpropagation.batch_size != x.shape[1]:
                self.backpropagation = self._make_backpropagation(x.shape[1])
            backpropagation, update = self.backpropagation, self.update
            for start in range(0, len(lr), backpropagation.piece_steps):
                piece = slice(start, start + backpropagation.piece_steps)
                backpropagation.prepare(x[piece], y[piece])
                update.prepare(lr[piece])
                for step in range(len(lr[piece])):
                    backpropagation.write_gradient(step)
                    update.apply(step)
                losses[piece] = backpropagation.losses(len(lr[piece]))
        return losses

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, beside the model's own state."""
        return {"update": self.update.state(), "dropout": self.dropout_generator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where other steps stood."""
        self.update.restore(state["update"])
        self.dropout_generator.set_state(state["dropout"])

    def _make_backpropagation(self, batch_size: int) -> "Backpropagation":
        """The layers for a batch size, in the form that is fastest for it."""
        config, dtype = self.model.config, self.weights.flat.dtype
        vocab_size, columns = len(self.weights.C), self.weights.W.shape[1]
        sizes = (batch_size, config.block_size, config.embedding_size, columns, vocab_size)
        table = table_pays(*sizes) if self.first_layer == "auto" else self.first_layer == "table"
        bfloat16 = self.precision == "bfloat16" or (
            self.precision == "auto" and dtype == torch.float32 and bfloat16_pays(*sizes)
        )
        mask = None
        if config.dropout:
            mask = DropoutMask(batch_size, config.hidden_neurons, config.dropout, dtype, self.dropout_generator)
        piece_steps = max(1, min(self.piece_steps, _PIECE_NUMBERS // (batch_size * (vocab_size + config.block_size))))
        return Backpropagation(self.weights, self.gradient, batch_size, table, bfloat16, mask, piece_steps)


def flatten_parameters(model: "MLP") -> Parameters:
    """The model's parameters, moved into one flat tensor."""
    W = model.W1.data if model.D is None else torch.cat([model.W1.data, model.D.data], dim=1)
    parts = [model.C.data, W, model.W2.data.t(), torch.cat([model.b1.data, model.b2.data])]
    weights = Parameters(torch.cat([part.flatten() for part in parts]), [part.shape for part in parts])
    hidden_neurons = len(model.b1)
    model.C.data, model.W1.data, model.W2.data = weights.C, weights.W[:, :hidden_neurons], weights.W2T.t()
    model.b1.data, model.b2.data = weights.b[:hidden_neurons], weights.b2
    if model.D is not None:
        model.D.data = weights.W[:, hidden_neurons:]
    return weights


class SGDUpdate:
    """The update of `SGD`. `decayed` is a view of the weights on which weight decay acts."""

    def __init__(self, rule: SGD, weights: Tensor, decayed: Tensor, gradient: Tensor) -> None:
        self.weights, self.decayed, self.gradient = weights, decayed, gradient
        self.weight_decay = rule.weight_decay
        self.lr: list[float] = []

    def prepare(self, lr: list[float]) -> None:
        """Set the learning rates of a piece."""
        self.lr = lr

    def apply(self, step: int) -> None:
        """Move the weights against the gradient."""
        lr = self.lr[step]
        if self.weight_decay:
            self.decayed.add_(self.decayed, alpha=-lr * self.weight_decay)
        self.weights.add_(self.gradient, alpha=-lr)

    def state(self) -> dict[str, Any]:
        """Nothing: the update remembers no earlier step."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to do."""


class AdamWUpdate:
    """The update of `AdamW`. `decayed` is a view of the weights on which weight decay acts."""

    def __init__(self, rule: AdamW, weights: Tensor, decayed: Tensor, gradient: Tensor) -> None:
        self.weights, self.decayed, self.gradient = [weights], decayed, [gradient]
        self.mean, self.square = [torch.zeros_like(weights)], [torch.zeros_like(weights)]
        self.beta1, self.beta2, self.epsilon = rule.beta1, rule.beta2, rule.epsilon
        self.weight_decay = rule.weight_decay
        self.steps_taken = 0
        self.lr: list[float] = []
        self.counts: Sequence[Tensor] = ()

    def prepare(self, lr: list[float]) -> None:
        """Set the learning rates of a piece, and count its steps on from the piece before."""
        self.lr = lr
        first = self.steps_taken + 1
        self.counts = torch.arange(first, first + len(lr), dtype=torch.float32).unbind()
        self.steps_taken += len(lr)

    def apply(self, step: int) -> None:
        """Move the weights against the gradient's mean, divided by the root of its mean square."""
        lr = self.lr[step]
        if self.weight_decay:
            self.decayed.add_(self.decayed, alpha=-lr * self.weight_decay)
        # the kernel of torch.optim.AdamW(fused=True); the public function around it takes 20 us where this takes 7
        torch._fused_adamw_(
            self.weights, self.gradient, self.mean, self.square, [], [self.counts[step]], lr=lr, beta1=self.beta1,
            beta2=self.beta2, weight_decay=0.0, eps=self.epsilon, amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """The means, and how many steps were taken."""
        return {"mean": self.mean[0], "square": self.square[0], "steps_taken": self.steps_taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another update stood."""
        self.mean[0].copy_(state["mean"])
        self.square[0].copy_(state["square"])
        self.steps_taken = state["steps_taken"]


def make_update(rule: Optimizer, weights: Tensor, decayed: Tensor, gradient: Tensor) -> SGDUpdate | AdamWUpdate:
    """The update of an optimiser, in its state before the first step."""
    if isinstance(rule, SGD):
        return SGDUpdate(rule, weights, decayed, gradient)
    return AdamWUpdate(rule, weights, decayed, gradient)
