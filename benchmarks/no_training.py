"""A task whose training returns at once: what is left of a trial is what the harness costs."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sweeps import Report, Task, Trained

# Six keys, as the default space has; `--config-dir` finds the task.
SPACE = (
    *("--config-dir", str(Path(__file__).parent / "conf"), "task=no_training", "space=none"),
    *("task.depth=range(1,6)", "task.width=int(interval(4,32))", "task.batch_size=choice(32,64,128)"),
    *("task.lr=tag(log,interval(1e-3,3e-2))", "task.momentum=interval(0.5,0.99)"),
    "task.weight_decay=tag(log,interval(1e-4,0.3))",
)


@dataclass(frozen=True)
class NoTraining(Task):
    """A thousand items; each trial reports so many times, better than all before it, so that none is pruned."""

    reports: int
    depth: int
    width: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float

    def read(self) -> Sequence[str]:
        return [f"item {number}" for number in range(1000)]

    def build(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        for step in range(1, self.reports + 1):
            report(step, 2.5 - 1e-6 * time.monotonic(), train_loss=2.5, lr=self.lr)
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, random.uniform(2.4, 2.5))
        return Trained(module)

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        loss = next(trained.module.parameters()).double().squeeze()
        return loss.expand(len(items)), torch.ones(len(items), dtype=torch.float64)
