"""A task of one's own: predict the price of a flat from its row in a CSV file, with a small network."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from sweeps import Report, Task, Trained

_COLUMNS = ("house", "area", "floor", "age", "price")


@dataclass(frozen=True)
class Regression(Task):
    """Squared error of predicted prices; flats of one house never land in two splits."""

    path: str  # the CSV file; it is made where it is missing
    width: int  # of the hidden layer
    lr: float
    steps: int

    item: ClassVar[str] = "flat"
    unit: ClassVar[str] = "squared error per flat"

    def read(self) -> Sequence[str]:
        """The rows of the file as text, without the header."""
        path = Path(self.path)
        if not path.exists():
            make_csv(path)
        return path.read_text(encoding="utf-8").splitlines()[1:]

    def group(self, item: str) -> str:
        """The house that a flat is in."""
        return item.partition(",")[0]

    def build(self) -> nn.Module:
        """An untrained network: area, floor and age in, a price out."""
        return nn.Sequential(nn.Linear(3, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> Trained:
        """Minimise the squared error on train; report dev ten times."""
        torch.manual_seed(seed)
        module = self.build()
        optimizer = torch.optim.Adam(module.parameters(), lr=self.lr)
        train_rows, dev_rows = parse(train), parse(dev)
        for step in range(1, self.steps + 1):
            loss = squared_errors(module, train_rows).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % max(1, self.steps // 10) == 0:
                with torch.no_grad():
                    dev_loss = squared_errors(module, dev_rows).mean()
                report(step, float(dev_loss), train_loss=float(loss.detach()))
        return Trained(module)

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The squared error of each flat; each is one term."""
        return squared_errors(trained.module, parse(items)).double(), torch.ones(len(items), dtype=torch.float64)


def parse(items: Sequence[str]) -> Tensor:
    """The numbers of each row but the house: area, floor, age and price, (n, 4) float32."""
    return torch.tensor([[float(number) for number in item.split(",")[1:]] for item in items])


def squared_errors(module: nn.Module, rows: Tensor) -> Tensor:
    """The squared error of each predicted price, (n,)."""
    return (module(rows[:, :3]).squeeze(1) - rows[:, 3]).square()


def make_csv(path: Path) -> None:
    """Write 600 flats in 120 houses; numbers are scaled to about one."""
    source = random.Random(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for house in range(120):
            age = source.uniform(-1, 1)
            for floor in range(5):
                area = source.gauss(0, 1)
                price = area + 0.3 * area * floor / 4 - 0.5 * age**2 + source.gauss(0, 0.1)
                writer.writerow([f"house{house}", f"{area:.4f}", f"{floor / 4:.2f}", f"{age:.4f}", f"{price:.4f}"])
