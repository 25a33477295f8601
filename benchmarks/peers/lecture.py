"""The lecture's loop as a user of any tuner would write it, in plain torch; what all peers train."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F


def load(block_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts and next characters of train and dev, with the lecture's split."""
    words = Path(os.environ["PEER_WORDS"]).read_text(encoding="utf-8").split()
    characters = sorted(set("".join(words)))
    stoi = {character: token + 1 for token, character in enumerate(characters)} | {".": 0}
    random.seed(42)
    random.shuffle(words)
    first, second = int(0.8 * len(words)), int(0.9 * len(words))

    def build(part: list[str]) -> tuple[Tensor, Tensor]:
        X, Y = [], []
        for word in part:
            context = [0] * block_size
            for character in word + ".":
                X.append(context)
                Y.append(stoi[character])
                context = [*context[1:], stoi[character]]
        return torch.tensor(X), torch.tensor(Y)

    return *build(words[:first]), *build(words[first:second])


def train(config: dict[str, float], steps: int, evaluations: int, report: Callable[[int, float], None]) -> float:
    """Train with minibatches and SGD; returns the last dev loss."""
    block_size, width, hidden = (int(config[key]) for key in ("block_size", "embedding_size", "hidden_neurons"))
    Xtr, Ytr, Xdev, Ydev = load(block_size)
    g = torch.Generator().manual_seed(2147483647)
    vocab_size = int(Ytr.max()) + 1
    C = torch.randn((vocab_size, width), generator=g)
    W1 = torch.randn((block_size * width, hidden), generator=g) * (5 / 3) / (block_size * width) ** 0.5
    b1 = torch.randn(hidden, generator=g) * 0.01
    W2 = torch.randn((hidden, vocab_size), generator=g) * 0.01
    b2 = torch.randn(vocab_size, generator=g) * 0
    parameters = [C, W1, b1, W2, b2]
    for p in parameters:
        p.requires_grad = True
    dev_loss = float("inf")
    for i in range(steps):
        ix = torch.randint(0, Xtr.shape[0], (int(config["batch_size"]),), generator=g)
        emb = C[Xtr[ix]]
        h = torch.tanh(emb.view(emb.shape[0], -1) @ W1 + b1)
        loss = F.cross_entropy(h @ W2 + b2, Ytr[ix])
        for p in parameters:
            p.grad = None
        loss.backward()
        lr = config["lr"] if i < config["decay_at"] * steps else config["lr"] * 0.1
        for p in parameters:
            p.data += -lr * p.grad
        if (i + 1) % (steps // evaluations) == 0:
            with torch.no_grad():
                h = torch.tanh(C[Xdev].view(Xdev.shape[0], -1) @ W1 + b1)
                dev_loss = F.cross_entropy(h @ W2 + b2, Ydev).item()
            report(i + 1, dev_loss)
    return dev_loss
