"""The training step as PyTorch's automatic differentiation and optimisers do it: the readable reference."""

import torch
from torch import Tensor
from torch.nn import functional as F

from makemore.dropout import DropoutMask
from makemore.mlp import MLP
from makemore.optimizer import SGD, Optimizer


class AutogradStep:
    """Takes training steps on a model, in place."""

    def __init__(self, model: MLP, optimizer: Optimizer, dropout_generator: torch.Generator) -> None:
        self.model = model
        self.dropout_generator = dropout_generator
        decayed = {id(parameter) for parameter in model.decayed}
        groups = [
            {"params": model.decayed, "weight_decay": optimizer.weight_decay},
            {"params": [p for p in model.parameters() if id(p) not in decayed], "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer
        if isinstance(optimizer, SGD):
            self.optimizer = torch.optim.SGD(groups)
        else:
            betas = (optimizer.beta1, optimizer.beta2)
            self.optimizer = torch.optim.AdamW(groups, betas=betas, eps=optimizer.epsilon, fused=True)

    def run(self, x: Tensor, y: Tensor, lr: list[float]) -> Tensor:
        """One step for each learning rate; the loss of each step's minibatch before it, (steps,).

        Args:
            x: contexts, (steps, batch_size, block_size) int64.
            y: next characters, (steps, batch_size) int64, or their distributions,
                (steps, batch_size, vocab_size) float.
            lr: learning rates, one a step.
        """
        losses = torch.empty(len(lr), device=x.device)
        weight, config = self.model.W1, self.model.config
        dropout = DropoutMask(x.shape[1], weight.shape[1], config.dropout, weight.dtype, self.dropout_generator)
        for step, rate in enumerate(lr):
            mask = dropout.draw().to(weight.device) if config.dropout else None
            loss = F.cross_entropy(self.model(x[step], mask), y[step])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            losses[step] = loss.detach()
        return losses
