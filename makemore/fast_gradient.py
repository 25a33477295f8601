"""The gradient of an MLP's loss on a minibatch, derived by hand: a class for each layer, with its memory.

Names in this file, for any matrix X:

- dX is the gradient of the loss with respect to X.
- XT is X transposed. Some matrices are kept transposed (logits, dW2, dE), because a product that writes rows as short
  as vocab_size takes up to twice as long.
- `rounded_X` is what stands for X in large products. With bfloat16 products it is a copy of X in bfloat16; otherwise it
  is the same tensor as X.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from makemore.dropout import DropoutMask

_tanh_backward = torch.ops.aten.tanh_backward.grad_input  # looking it up in each step takes 1 % of a small step


class Parameters:
    """A flat tensor [C, W, W2T, b1, b2] and views of its parts; the tensor holds the weights or their gradient.

    W is W1 or, with direct connections, [W1 | D]. The columns of D skip tanh: their part of z = E W + b is added to the
    logits, and b2 is their bias. So b, the bias of W, is b1 or, with direct connections, [b1, b2].
    """

    def __init__(self, flat: Tensor, shapes: Sequence[torch.Size]) -> None:
        self.flat, self.shapes = flat, shapes
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        self.C, self.W, self.W2T, biases = (part.view(shape) for part, shape in zip(parts, shapes, strict=True))
        self.b, self.b2 = biases[: self.W.shape[1]], biases[self.W2T.shape[1] :]

    def views_of(self, flat: Tensor) -> "Parameters":
        """The same views of another flat tensor."""
        return Parameters(flat, self.shapes)


class Backpropagation:
    """The layers of the model for one batch size; they compute the gradients of minibatches.

    Minibatches come in pieces of at most `piece_steps`. After `prepare`, `step` counts a piece's minibatches from 0.
    """

    def __init__(
        self,
        weights: Parameters,
        gradient: Parameters,
        batch_size: int,
        table: bool,
        bfloat16: bool,
        mask: DropoutMask | None,
        piece_steps: int,
    ) -> None:
        self.batch_size, self.piece_steps, self.bfloat16 = batch_size, piece_steps, bfloat16
        self.weights = weights.flat
        self.rounded_weights = rounded_like(weights.flat, bfloat16)
        rounded = weights.views_of(self.rounded_weights)
        columns, self.hidden_neurons = weights.W.shape[1], weights.W2T.shape[1]
        self.connects = columns > self.hidden_neurons
        z, dz = weights.flat.new_empty(2, batch_size, columns).unbind()
        tanh, dtanh, dskipped = z[:, : self.hidden_neurons], dz[:, : self.hidden_neurons], dz[:, self.hidden_neurons :]
        self.first: TableLayer | DirectLayer = (
            TableLayer(weights, gradient, dz) if table else DirectLayer(rounded, gradient, z, dz, bfloat16)
        )
        self.hidden = HiddenLayer(tanh, dtanh, mask, bfloat16)
        self.output = OutputLayer(rounded, gradient, self.hidden, dskipped, bfloat16, piece_steps)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Set the minibatches of a piece, x and y as in `FastStep.run`."""
        self.first.prepare(x)
        self.output.prepare(y)

    def write_gradient(self, step: int) -> None:
        """Write the gradient of a minibatch's loss at the current weights."""
        if self.bfloat16:
            self.rounded_weights.copy_(self.weights)
        two_z = self.first.forward(step)
        two_skipped = None
        if self.connects:
            two_z, two_skipped = two_z[:, : self.hidden_neurons], two_z[:, self.hidden_neurons :]
        self.hidden.forward(two_z)
        self.output.forward(step, two_skipped)
        self.output.backward(step)
        self.hidden.backward()
        self.first.backward(step)

    def losses(self, steps: int) -> Tensor:
        """The losses of the first minibatches of the piece, (steps,)."""
        return self.output.losses(steps)


class DirectLayer:
    """z = E W + b, where E (n, block_size * embedding_size) holds the embeddings of each context side by side.

    `forward` writes 2 z into z; `backward` reads dz. Both are (n, columns of W).
    """

    def __init__(self, rounded: Parameters, gradient: Parameters, z: Tensor, dz: Tensor, bfloat16: bool) -> None:
        n, inputs, embedding_size = len(z), len(rounded.W), rounded.C.shape[1]
        self.bfloat16 = bfloat16
        self.rounded_C, self.rounded_W, self.rounded_b = rounded.C, rounded.W, rounded.b
        self.dC_numbers, self.dW, self.db = gradient.C.view(-1), gradient.W, gradient.b
        self.z, self.dz, self.dzT = z, dz, dz.t()
        self.rounded_rows = rounded.C.new_empty(n * inputs // embedding_size, embedding_size)  # those of C
        self.rounded_E = self.rounded_rows.view(n, inputs)
        self.rounded_ET = self.rounded_E.t()
        self.dET = z.new_empty(inputs, n)
        self.dET_numbers = self.dET.view(-1)
        self.rounded_z, self.rounded_dz = rounded_like(z, bfloat16), rounded_like(dz, bfloat16)
        self.rounded_dW, self.rounded_dET = rounded_like(self.dW, bfloat16), rounded_like(self.dET, bfloat16)
        self.rounded_dzT = self.rounded_dz.t()
        self.ones = z.new_ones(n)
        self.column = torch.arange(embedding_size, dtype=torch.int32).unsqueeze(1)
        self.characters: Sequence[Tensor] = ()
        self.places: Sequence[Tensor] = ()

    def prepare(self, x: Tensor) -> None:
        """Compute the indices that the minibatches of a piece need."""
        self.characters = x.flatten(1).unbind()
        # Entry (b, e, i) of dET, seen as (block_size, embedding_size, n), belongs to C[x[i, b], e]. Adding single
        # numbers to their places in a flat dC takes a third of the time of adding rows.
        places = torch.add(self.column, x.int().transpose(1, 2).unsqueeze(2), alpha=len(self.column))
        self.places = places.flatten(1).unbind()

    def forward(self, step: int) -> Tensor:
        """2 z, which the hidden layer needs in place of z."""
        torch.index_select(self.rounded_C, 0, self.characters[step], out=self.rounded_rows)  # E = C[x]
        torch.addmm(self.rounded_b, self.rounded_E, self.rounded_W, beta=2, alpha=2, out=self.rounded_z)  # 2 (E W + b)
        if self.bfloat16:
            self.z.copy_(self.rounded_z)
        return self.z

    def backward(self, step: int) -> None:
        """Write dC, dW and db."""
        if self.bfloat16:
            self.rounded_dz.copy_(self.dz)
        torch.mm(self.rounded_ET, self.rounded_dz, out=self.rounded_dW)  # dW = E^T dz
        torch.mv(self.dzT, self.ones, out=self.db)  # db = sum of dz over examples
        torch.mm(self.rounded_W, self.rounded_dzT, out=self.rounded_dET)  # dE = dz W^T, transposed
        if self.bfloat16:
            self.dW.copy_(self.rounded_dW)
            self.dET.copy_(self.rounded_dET)
        self.dC_numbers.zero_().index_add_(0, self.places[step], self.dET_numbers)  # dC[c] = sum of dE where x is c


class TableLayer:
    """z = sum over positions b of T[b, x_b], where the table T[b] is C W[b], and T[0] also includes the bias.

    Its products have vocab_size rows, where those of `DirectLayer` have n; they are never rounded. `forward` returns
    2 z; `backward` reads dz. Both are (n, columns of W).
    """

    def __init__(self, weights: Parameters, gradient: Parameters, dz: Tensor) -> None:
        (vocab_size, embedding_size), (inputs, columns) = weights.C.shape, weights.W.shape
        block_size = inputs // embedding_size
        self.C = weights.C.expand(block_size, vocab_size, embedding_size)
        self.W, self.b = weights.W.view(block_size, embedding_size, columns), weights.b
        self.CT, self.WT = self.C.transpose(1, 2), self.W.transpose(1, 2)
        self.dC, self.dW, self.db = gradient.C, gradient.W.view(self.W.shape), gradient.b
        self.dC_parts = dz.new_empty(self.C.shape)  # a summand of dC for each position
        self.dz = dz
        self.T = dz.new_empty(block_size, vocab_size, columns)
        self.T0, self.rows = self.T[0], self.T.flatten(0, 1)
        self.ones = dz.new_ones(vocab_size)
        self.first_rows = torch.arange(block_size) * vocab_size
        self.starts = torch.arange(len(dz) + 1) * block_size
        self.rows_of: Sequence[Tensor] = ()
        self.examples_of: Sequence[Tensor] = ()
        self.row_starts: Sequence[Tensor] = ()

    def prepare(self, x: Tensor) -> None:
        """Compute the indices that the minibatches of a piece need: each example's rows, and each row's examples."""
        steps, n, _ = x.shape
        rows_of = x + self.first_rows
        self.rows_of = rows_of.flatten(1).unbind()
        row = (rows_of.transpose(1, 2) + torch.arange(steps).view(-1, 1, 1) * len(self.rows)).flatten()
        narrow = row.short() if steps * len(self.rows) < 2**15 else row  # sorts in a third of the time
        self.examples_of = (torch.sort(narrow, stable=True).indices % n).view(steps, -1).unbind()
        uses = torch.bincount(row, minlength=steps * len(self.rows)).view(steps, -1)
        self.row_starts = F.pad(uses.cumsum(1), (1, 0)).unbind()

    def forward(self, step: int) -> Tensor:
        """2 z, which the hidden layer needs in place of z."""
        torch.baddbmm(self.T, self.C, self.W, beta=0, alpha=2, out=self.T)  # 2 T
        self.T0.add_(self.b, alpha=2)
        rows_of = self.rows_of[step]
        two_z: Tensor = F.embedding_bag(rows_of, self.rows, self.starts, mode="sum", include_last_offset=True)
        return two_z

    def backward(self, step: int) -> None:
        """Write dC, dW and db."""
        examples_of, starts = self.examples_of[step], self.row_starts[step]
        # dT[b, c] = sum of dz over the examples with x_b = c
        dT = F.embedding_bag(examples_of, self.dz, starts, mode="sum", include_last_offset=True).view(self.T.shape)
        torch.mv(dT[0].t(), self.ones, out=self.db)  # db = sum of dz over examples = sum of the rows of dT[0]
        torch.bmm(self.CT, dT, out=self.dW)  # dW[b] = C^T dT[b]
        torch.bmm(dT, self.WT, out=self.dC_parts)
        torch.sum(self.dC_parts, 0, out=self.dC)  # dC = sum over b of dT[b] W[b]^T


class HiddenLayer:
    """h = tanh(z), times the dropout mask if there is one, (n, hidden_neurons).

    `tanh` is the memory for tanh(z); `dtanh` is the memory first for its gradient and then for dz.
    """

    def __init__(self, tanh: Tensor, dtanh: Tensor, mask: DropoutMask | None, bfloat16: bool) -> None:
        self.tanh, self.dtanh, self.mask, self.bfloat16 = tanh, dtanh, mask, bfloat16
        self.h = tanh if mask is None else tanh.new_empty(tanh.shape)
        self.rounded_h, self.rounded_dh = rounded_like(self.h, bfloat16), rounded_like(dtanh, bfloat16)
        self.minus_one = tanh.new_tensor(-1.0)

    def forward(self, two_z: Tensor) -> None:
        """Write `rounded_h`, the layer's output."""
        tanh = self.tanh
        torch.sigmoid(two_z, out=tanh)
        torch.add(self.minus_one, tanh, alpha=2, out=tanh)  # tanh(z) = 2 sigmoid(2 z) - 1, in a third of the time
        if self.mask is not None:
            torch.mul(tanh, self.mask.draw(), out=self.h)
        if self.bfloat16:
            self.rounded_h.copy_(self.h)

    def backward(self) -> None:
        """Write dz; read `rounded_dh`."""
        dtanh = self.dtanh
        if self.bfloat16:
            dtanh.copy_(self.rounded_dh)
        if self.mask is not None:
            dtanh.mul_(self.mask.mask)
        _tanh_backward(dtanh, self.tanh, grad_input=dtanh)  # dz = dtanh (1 - tanh^2)


class OutputLayer:
    """logits = h W2 + b2, and the loss; h is the output of the hidden layer.

    With direct connections logits = h W2 + skipped, where `skipped`, a part of z, already contains b2.
    """

    def __init__(
        self,
        rounded: Parameters,
        gradient: Parameters,
        hidden: HiddenLayer,
        dskipped: Tensor,
        bfloat16: bool,
        piece_steps: int,
    ) -> None:
        n, vocab_size = len(dskipped), len(rounded.W2T)
        self.bfloat16, self.connects, self.part = bfloat16, dskipped.shape[1] > 0, 1 / n
        self.rounded_W2T, self.rounded_b2 = rounded.W2T, rounded.b2.unsqueeze(1)
        self.rounded_h, self.rounded_hT, self.rounded_dh = hidden.rounded_h, hidden.rounded_h.t(), hidden.rounded_dh
        self.dW2T, self.rounded_dW2T = gradient.W2T, rounded_like(gradient.W2T, bfloat16)
        self.db2, self.dskipped = gradient.b2, dskipped
        self.targets, self.logits = dskipped.new_empty(2, piece_steps, vocab_size, n).unbind()
        self.targetT_of, self.logitsT_of = self.targets.unbind(), self.logits.unbind()  # targetT is -y^T / n
        self.dlogitsT = dskipped.new_empty(vocab_size, n)
        self.rounded_dlogitsT = rounded_like(self.dlogitsT, bfloat16)
        self.dlogits, self.rounded_dlogits = self.dlogitsT.t(), self.rounded_dlogitsT.t()
        self.rounded_logitsT_of: Sequence[Tensor] = self.logitsT_of
        if bfloat16:
            self.rounded_logitsT_of = [rounded_like(self.dlogitsT, bfloat16)] * piece_steps
        self.ones = dskipped.new_ones(n)

    def prepare(self, y: Tensor) -> None:
        """Write the targets of a piece."""
        targets = self.targets[: len(y)]
        if y.is_floating_point():
            torch.mul(y.transpose(1, 2), -self.part, out=targets)
        else:
            targets.zero_().scatter_(1, y.unsqueeze(1), -self.part)

    def forward(self, step: int, two_skipped: Tensor | None) -> None:
        """Write the logits."""
        logitsT, rounded_logitsT = self.logitsT_of[step], self.rounded_logitsT_of[step]
        if two_skipped is None:
            torch.addmm(self.rounded_b2, self.rounded_W2T, self.rounded_hT, out=rounded_logitsT)  # h W2 + b2
        else:
            torch.mm(self.rounded_W2T, self.rounded_hT, out=rounded_logitsT)  # h W2
        if self.bfloat16:
            logitsT.copy_(rounded_logitsT)
        if two_skipped is not None:
            logitsT.add_(two_skipped.t(), alpha=0.5)  # + skipped

    def backward(self, step: int) -> None:
        """Write `rounded_dh`, dW2, and db2 or `dskipped`."""
        dlogitsT = self.dlogitsT
        torch.softmax(self.logitsT_of[step], 0, out=dlogitsT)
        torch.add(self.targetT_of[step], dlogitsT, alpha=self.part, out=dlogitsT)  # dlogits = (softmax(logits) - y) / n
        if self.bfloat16:
            self.rounded_dlogitsT.copy_(dlogitsT)
        torch.mm(self.rounded_dlogitsT, self.rounded_h, out=self.rounded_dW2T)  # dW2 = h^T dlogits, transposed
        torch.mm(self.rounded_dlogits, self.rounded_W2T, out=self.rounded_dh)  # dh = dlogits W2^T
        if self.bfloat16:
            self.dW2T.copy_(self.rounded_dW2T)
        if self.connects:
            self.dskipped.copy_(self.dlogits)  # the first layer writes db2, as a part of its own db
        else:
            torch.mv(dlogitsT, self.ones, out=self.db2)  # db2 = sum of dlogits over examples

    def losses(self, steps: int) -> Tensor:
        """The losses of the first minibatches of the piece, (steps,)."""
        # -sum of y log softmax(logits), over n
        return torch.log_softmax(self.logits[:steps], 1).mul_(self.targets[:steps]).sum((1, 2))


def rounded_like(tensor: Tensor, bfloat16: bool) -> Tensor:
    """Memory for the tensor rounded to bfloat16, or the tensor itself if nothing is rounded."""
    return torch.empty_like(tensor, dtype=torch.bfloat16) if bfloat16 else tensor
