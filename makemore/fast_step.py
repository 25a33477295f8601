"""The training step with its gradients derived by hand: the updates of `AutogradStep`, several times as fast.

Every result goes into memory made beforehand, and all parameters lie in one flat tensor, so that a step is some twenty
calls into torch. Two conventions: a name that ends in _ is what enters or leaves a large product, which is the tensor
itself or its bfloat16 twin; and large products write rows as long as they can (some matrices are kept transposed for
that), because writing rows as short as vocab_size takes up to twice the time.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from makemore.dropout import DropoutMask
from makemore.limits import LimitError
from makemore.optimizer import SGD, Optimizer

if TYPE_CHECKING:
    from makemore.mlp import MLP

PRECISIONS = ("float32", "bfloat16", "auto")
_PIECE_NUMBERS = 400_000  # targets and indices prepared at a time: few calls a step, little memory
_PIECE_STEPS = 128
_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # looked up once: that alone takes 1 % of a small step


def table_pays(batch_size: int, block_size: int, embedding_size: int, hidden_neurons: int, vocab_size: int) -> bool:
    """Whether the first layer is faster through tables: products over vocab_size rows, not batch_size, then sums.

    Fitted to 1,090 random sizes on two AVX-512 cores; its choices took 1 % more time than the faster path.
    """
    saved = embedding_size * (batch_size - vocab_size)  # products; each gathered row costs as much as five of them
    return block_size * hidden_neurons * (saved - 5 * batch_size) > 100_000


def bfloat16_pays(batch_size: int, block_size: int, embedding_size: int, hidden_neurons: int, vocab_size: int) -> bool:
    """Whether bfloat16 products are faster: the processor has them, and they save more than rounding costs.

    Fitted to 500 random sizes with AVX-512 BF16, where they take half the time; matrix units (AMX) only save more.
    """
    processor = torch.cpu.get_capabilities()
    if not (processor.get("amx_bf16") or processor.get("avx512_bf16")):
        return False
    direct = not table_pays(batch_size, block_size, embedding_size, hidden_neurons, vocab_size)
    per_neuron = vocab_size + direct * block_size * embedding_size
    return batch_size * hidden_neurons * (per_neuron - 16 * (1 + direct)) > 8_000_000


class FastStep:
    """Takes training steps on a model on the CPU, in place.

    From here on the model's parameters are views of one flat tensor [C, W, W2^T | b1, b2]; weight decay acts on the
    part before the bar, and on all of it where there is no hidden layer. W is W1 or, with direct connections, [W1 | D]:
    columns of the first layer that skip tanh and are added to the logits, with b2 as their bias. So W1, D and W2 may be
    strided views: a file format that wants contiguous tensors needs `.contiguous()`.

    Args:
        precision: of the large products. "bfloat16" rounds their operands and results and nothing else: the weights,
            the optimiser, tanh and softmax stay float32. "auto" is "bfloat16" where `bfloat16_pays`, else "float32".

    Raises:
        LimitError: an unknown precision, bfloat16 for a model that is not float32, or a model that is not on the CPU.
    """

    def __init__(
        self, model: "MLP", optimizer: Optimizer, dropout_generator: torch.Generator, precision: str = "float32"
    ) -> None:
        if precision not in PRECISIONS:
            raise LimitError("precision", precision, " or ".join(PRECISIONS))
        if precision == "bfloat16" and model.C.dtype != torch.float32:
            raise LimitError("precision", precision, f"float32 for a model of {model.C.dtype}")
        if model.C.device.type != "cpu":
            raise LimitError("device", model.C.device, "cpu")
        self.model, self.config, self.optimizer, self.precision = model, model.config, optimizer, precision
        self.dropout, self.dropout_generator = model.config.dropout, dropout_generator
        self.connects, self.hidden_neurons = model.D is not None, model.config.hidden_neurons
        W = model.W1.data if model.D is None else torch.cat([model.W1.data, model.D.data], dim=1)
        parts = [model.C.data, W, model.W2.data.t(), torch.cat([model.b1.data, model.b2.data])]
        self.shapes = [part.shape for part in parts]
        self.flat = torch.cat([part.flatten() for part in parts])
        self.decayed = self.flat[: sum(parameter.numel() for parameter in model.decayed)]
        self.gradient, self.mean, self.square = self.flat.new_zeros(3, len(self.flat)).unbind()
        model.C.data, W, W2T, b = self.views(self.flat)
        model.W1.data, model.W2.data = W[:, : self.hidden_neurons], W2T.t()
        model.b1.data, model.b2.data = b[: self.hidden_neurons], b[self.hidden_neurons :]
        if model.D is not None:
            model.D.data = W[:, self.hidden_neurons :]
        self.steps = 0
        self.batch_size = 0  # of the memory made so far

    def views(self, flat: Tensor) -> list[Tensor]:
        """C, W, W2^T and [b1, b2], or their gradients, in a flat tensor."""
        pieces = torch.split(flat, [shape.numel() for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,).

        Args:
            x: contexts, (steps, batch_size, block_size) int64.
            y: next characters, (steps, batch_size) int64, or their distributions,
                (steps, batch_size, vocab_size) float.
            lr: learning rates, one a step.
        """
        losses = torch.empty(len(lr), dtype=self.flat.dtype)
        with torch.inference_mode():
            if x.shape[1] != self.batch_size:
                self._allocate(x.shape[1])
            for start in range(0, len(lr), len(self.memory)):
                piece = slice(start, start + len(self.memory))
                losses[piece] = self._run_piece(x[piece], y[piece], lr[piece])
        return losses

    def _allocate(self, n: int) -> None:
        """Make the memory for minibatches of n examples."""
        (_, columns), (vocab_size, hidden_neurons) = self.shapes[1:3]
        sizes = (n, self.config.block_size, self.config.embedding_size, columns, vocab_size)
        low = self.precision == "bfloat16" or (
            self.precision == "auto" and self.flat.dtype == torch.float32 and bfloat16_pays(*sizes)
        )
        self.product_dtype = torch.bfloat16 if low else self.flat.dtype
        self.batch_size = n
        steps = max(1, min(_PIECE_STEPS, _PIECE_NUMBERS // (n * (vocab_size + self.config.block_size))))
        self.targets, self.logits = self.flat.new_empty(2, steps, vocab_size, n).unbind()
        self.memory = list(zip(self.targets.unbind(), self.logits.unbind(), strict=True))
        self.flat_ = self.twin(self.flat)
        self.C_, self.W_, self.W2T_, b_ = self.views(self.flat_)
        self.C, self.W, _, b = self.views(self.flat)
        self.dC, self.dW, self.dW2T, db = self.views(self.gradient)
        self.b_, self.b, self.db = (biases[:columns] for biases in (b_, b, db))  # of the first layer
        self.b2_, self.db2 = b_[hidden_neurons:].unsqueeze(1), db[hidden_neurons:]
        self.z, self.dz = self.flat.new_empty(2, n, columns).unbind()
        self.h, self.dh = self.z[:, :hidden_neurons], self.dz[:, :hidden_neurons]
        dropped = torch.empty_like(self.h, memory_format=torch.contiguous_format)
        self.mask = DropoutMask(n, hidden_neurons, self.dropout, self.flat.dtype, self.dropout_generator)
        self.dropped = dropped if self.dropout else self.h
        self.dlogits = self.flat.new_empty(vocab_size, n)
        self.dropped_, self.dh_, self.dW2T_ = self.twin(self.dropped), self.twin(self.dh), self.twin(self.dW2T)
        self.logits_, self.dlogits_ = self.twin(self.dlogits), self.twin(self.dlogits)
        self.dropped_T, self.dlogits_T = self.dropped_.t(), self.dlogits_.t()
        self.dskipped, self.dlogits_columns = self.dz[:, hidden_neurons:], self.dlogits.t()
        self.minus_one, self.ones = self.flat.new_tensor(-1.0), self.flat.new_ones(n)
        self.first = _Table(self) if table_pays(*sizes) else _Direct(self)

    def twin(self, tensor: Tensor) -> Tensor:
        """What stands for a tensor in large products: itself, or memory for its bfloat16 twin."""
        return tensor if tensor.dtype == self.product_dtype else torch.empty_like(tensor, dtype=self.product_dtype)

    def _run_piece(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """`run`, for no more steps than there is memory for."""
        targets, logits = self.targets[: len(lr)], self.logits[: len(lr)]
        if y.is_floating_point():
            torch.mul(y.transpose(1, 2), -1 / self.batch_size, out=targets)
        else:
            targets.zero_().scatter_(1, y.unsqueeze(1), -1 / self.batch_size)
        self.first.prepare(x)
        counts = torch.arange(self.steps + 1, self.steps + len(lr) + 1, dtype=torch.float32).unbind()
        for i, rate in enumerate(lr):
            self._backpropagate(i, *self.memory[i])
            self._update(rate, counts[i])
        self.steps += len(lr)
        return torch.log_softmax(logits, 1).mul_(targets).sum((1, 2))  # -sum of y log softmax(logits), over n

    def _backpropagate(self, i: int, target: Tensor, logits: Tensor) -> None:
        """Write the gradient of minibatch i of the piece; target = -y^T / n and logits are (vocab_size, n)."""
        h, dh, dlogits = self.h, self.dh, self.dlogits
        _round(self.flat, self.flat_)
        two_z = self.first.forward(self, i)  # z = E W + b
        if self.connects:
            two_z, two_skipped = two_z[:, : self.hidden_neurons], two_z[:, self.hidden_neurons :]
        torch.sigmoid(two_z, out=h)
        torch.add(self.minus_one, h, alpha=2, out=h)  # h = tanh(z) = 2 sigmoid(2 z) - 1, in a third of tanh's time
        if self.dropout:
            torch.mul(h, self.mask.draw(), out=self.dropped)
        _round(self.dropped, self.dropped_)
        logits_ = logits if self.logits_ is dlogits else self.logits_
        if self.connects:
            torch.mm(self.W2T_, self.dropped_T, out=logits_)  # logits = h W2 + E D + b2, transposed
            _round(logits_, logits)
            logits.add_(two_skipped.t(), alpha=0.5)
        else:
            torch.addmm(self.b2_, self.W2T_, self.dropped_T, out=logits_)  # logits = h W2 + b2, transposed
            _round(logits_, logits)
        torch.softmax(logits, 0, out=dlogits)
        torch.add(target, dlogits, alpha=1 / self.batch_size, out=dlogits)  # dlogits = (softmax(logits) - y) / n
        _round(dlogits, self.dlogits_)
        torch.mm(self.dlogits_, self.dropped_, out=self.dW2T_)  # dW2 = h^T dlogits, transposed
        _round(self.dW2T_, self.dW2T)
        if self.connects:
            self.dskipped.copy_(self.dlogits_columns)  # and db2 with the first layer's biases
        else:
            torch.mv(dlogits, self.ones, out=self.db2)  # db2 = sum of dlogits over examples
        torch.mm(self.dlogits_T, self.W2T_, out=self.dh_)  # dh = dlogits W2^T
        _round(self.dh_, dh)
        if self.dropout:
            dh.mul_(self.mask.mask)
        _tanh_backward(dh, h, grad_input=dh)  # dz = dh (1 - h^2)
        self.first.backward(self, i)

    def _update(self, lr: float, count: Tensor) -> None:
        """Move the weights against the gradient; `count` numbers the steps from 1."""
        rule = self.optimizer
        if rule.weight_decay:
            self.decayed.add_(self.decayed, alpha=-lr * rule.weight_decay)
        if isinstance(rule, SGD):
            self.flat.add_(self.gradient, alpha=-lr)
        else:
            # the kernel of torch.optim.AdamW(fused=True); the public function around it takes 20 us where this takes 7
            torch._fused_adamw_(
                [self.flat], [self.gradient], [self.mean], [self.square], [], [count], lr=lr, beta1=rule.beta1,
                beta2=rule.beta2, weight_decay=0.0, eps=rule.epsilon, amsgrad=False, maximize=False,
            )  # fmt: skip


class _Direct:
    """z = E W + b; E (n, block_size * embedding_size) holds the embeddings of a context side by side.

    It keeps no reference to its step: a cycle would keep the memory of both until Python looks for garbage.
    """

    def __init__(self, step: FastStep) -> None:
        inputs, embedding_size = len(step.W), step.C.shape[1]
        self.rows_ = step.C_.new_empty(step.batch_size * inputs // embedding_size, embedding_size)
        self.E_ = self.rows_.view(step.batch_size, inputs)
        self.dE = step.flat.new_empty(inputs, step.batch_size)
        self.two_z_, self.dz_, self.dE_, self.dW_ = map(step.twin, (step.z, step.dz, self.dE, step.dW))
        self.E_T, self.dz_T, self.dz_columns = self.E_.t(), self.dz_.t(), step.dz.t()
        self.dE_flat, self.dC_flat = self.dE.view(-1), step.dC.view(-1)
        self.column = torch.arange(embedding_size, dtype=torch.int32).unsqueeze(1)

    def prepare(self, x: Tensor) -> None:
        """Indices for the minibatches x of a piece."""
        self.characters = x.flatten(1).unbind()
        # entry (b, e, i) of dE^T, seen as (block_size, embedding_size, n), belongs to C[x[i, b], e]; as one flat sum
        # over numbers this takes a third of the time of a sum over rows
        places = torch.add(self.column, x.int().transpose(1, 2).unsqueeze(2), alpha=len(self.column))
        self.places = places.flatten(1).unbind()

    def forward(self, step: FastStep, i: int) -> Tensor:
        torch.index_select(step.C_, 0, self.characters[i], out=self.rows_)  # E = C[x]
        torch.addmm(step.b_, self.E_, step.W_, beta=2, alpha=2, out=self.two_z_)  # 2 z = 2 (E W + b)
        _round(self.two_z_, step.z)
        return step.z

    def backward(self, step: FastStep, i: int) -> None:
        _round(step.dz, self.dz_)
        torch.mm(self.E_T, self.dz_, out=self.dW_)  # dW = E^T dz
        _round(self.dW_, step.dW)
        torch.mv(self.dz_columns, step.ones, out=step.db)  # db = sum of dz over examples
        torch.mm(step.W_, self.dz_T, out=self.dE_)  # dE = dz W^T, transposed
        _round(self.dE_, self.dE)
        self.dC_flat.zero_().index_add_(0, self.places[i], self.dE_flat)  # dC[c] = sum of dE where x is c


class _Table:
    """z = sum over positions b of T[b, x_b], with a table T[b] = C W[b] for each position, and b added to T[0]."""

    def __init__(self, step: FastStep) -> None:
        block_size = step.config.block_size
        self.C = step.C.expand(block_size, -1, -1)
        self.W, self.dW = (W.view(block_size, -1, W.shape[1]) for W in (step.W, step.dW))
        self.CT, self.WT = self.C.transpose(1, 2), self.W.transpose(1, 2)
        self.T = torch.bmm(self.C, self.W)
        self.rows = self.T.flatten(0, 1)
        self.dC_parts = torch.empty_like(self.C, memory_format=torch.contiguous_format)
        self.ones = step.flat.new_ones(len(step.C))
        self.first_rows = torch.arange(block_size) * len(step.C)
        self.starts = torch.arange(step.batch_size + 1) * block_size

    def prepare(self, x: Tensor) -> None:
        """Indices for the minibatches x of a piece: of each example its rows in the tables, and the other way round."""
        steps, n, _ = x.shape
        rows_of = x + self.first_rows
        self.rows_of = rows_of.flatten(1).unbind()
        row = (rows_of.transpose(1, 2) + torch.arange(steps).view(-1, 1, 1) * len(self.rows)).flatten()
        narrow = row.short() if steps * len(self.rows) < 2**15 else row  # sorts in a third of the time
        self.examples_of = (torch.sort(narrow, stable=True).indices % n).view(steps, -1).unbind()
        uses = torch.bincount(row, minlength=steps * len(self.rows)).view(steps, -1)
        self.row_starts = F.pad(uses.cumsum(1), (1, 0)).unbind()

    def forward(self, step: FastStep, i: int) -> Tensor:
        torch.baddbmm(self.T, self.C, self.W, beta=0, alpha=2, out=self.T)  # 2 T
        self.T[0].add_(step.b, alpha=2)
        two_z: Tensor = F.embedding_bag(self.rows_of[i], self.rows, self.starts, mode="sum", include_last_offset=True)
        return two_z

    def backward(self, step: FastStep, i: int) -> None:
        # dT[b, c] = sum of dz over the examples with x_b = c
        dT = F.embedding_bag(self.examples_of[i], step.dz, self.row_starts[i], mode="sum", include_last_offset=True)
        dT = dT.view(self.T.shape)
        torch.mv(dT[0].t(), self.ones, out=step.db)  # db = sum of dz over examples = sum of the rows of dT[0]
        torch.bmm(self.CT, dT, out=self.dW)  # dW[b] = C^T dT[b]
        torch.bmm(dT, self.WT, out=self.dC_parts)
        torch.sum(self.dC_parts, 0, out=step.dC)  # dC = sum over b of dT[b] W[b]^T


def _round(source: Tensor, target: Tensor) -> None:
    """Carry a matrix between float32 and its bfloat16 twin; nothing where both are one tensor."""
    if source is not target:
        target.copy_(source)
