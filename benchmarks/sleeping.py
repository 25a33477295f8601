"""A task that sleeps in place of training: any number of workers train at once, whatever the number of cores."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sweeps import Report, Task, Trained


@dataclass(frozen=True)
class Sleeping(Task):
    """Sleeps, reports once, and has `x` as the loss of each of a hundred items."""

    seconds: float
    x: float

    def read(self) -> Sequence[str]:
        return [f"item {number}" for number in range(100)]

    def build(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        time.sleep(self.seconds)
        report(1, self.x)
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, self.x)
        return Trained(module)

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        loss = next(trained.module.parameters()).double().squeeze()
        return loss.expand(len(items)), torch.ones(len(items), dtype=torch.float64)
