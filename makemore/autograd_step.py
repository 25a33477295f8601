"""Training steps by PyTorch's automatic differentiation and optimisers: for any module, and easy to read."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from makemore.optimizer import SGD, Optimizer
from makemore.random_state import PrivateRandomState


def minibatch_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Mean loss of the predicted characters of a minibatch, in nats per character.

    Args:
        logits: (..., vocab_size), one row for each context, or for each position of each sequence.
        y: next characters, (...) int64, -100 where nothing is predicted; or their distributions,
            (..., vocab_size) float, rows of zeros where nothing is predicted.
    """
    rows = logits.flatten(0, -2)
    if not y.is_floating_point():
        return F.cross_entropy(rows, y.flatten())
    y = y.flatten(0, -2)
    return F.cross_entropy(rows, y, reduction="sum") / y.any(dim=1).sum()


class AutogradStep:
    """Takes training steps on a module, in place.

    The module's own random draws, such as nn.Dropout's, come from a random state that only these steps use.

    Args:
        decayed: the parameters that weight decay acts on.
        generator: where the random state of the steps starts.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, decayed: Sequence[nn.Parameter], generator: torch.Generator
    ) -> None:
        self.model = model
        self.random_state = PrivateRandomState(generator, next(model.parameters()).device)
        in_decayed = {id(parameter) for parameter in decayed}
        groups = [
            {"params": list(decayed), "weight_decay": optimizer.weight_decay},
            {"params": [p for p in model.parameters() if id(p) not in in_decayed], "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer
        if isinstance(optimizer, SGD):
            self.optimizer = torch.optim.SGD(groups)
        else:
            betas = (optimizer.beta1, optimizer.beta2)
            self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=optimizer.epsilon, fused=True)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, beside the module's own state."""
        return {"optimizer": self.optimizer.state_dict(), "random": self.random_state.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where other steps stood."""
        self.optimizer.load_state_dict(dict(state["optimizer"]))
        self.random_state.restore(state["random"])

    def logits(self, x: Tensor) -> Tensor:
        """The module's logits in training, of one minibatch x."""
        return self.model(x)  # type: ignore[no-any-return]

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,).

        Args:
            x: contexts or sequences, (steps, batch_size, block_size) int64.
            y: what follows, as `minibatch_loss` takes it, for each step.
            lr: learning rates, one a step.
        """
        losses = torch.empty(len(lr), device=x.device)
        self.model.train()
        with self.random_state.used():
            for step, rate in enumerate(lr):
                loss = minibatch_loss(self.logits(x[step]), y[step])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                self.optimizer.step()
                losses[step] = loss.detach()
        return losses
