"""How long a training step takes, beside the ways one would write it in plain torch, on one thread.

    python benchmarks/training_step.py [--rounds N] [--compile] [--json PATH]

Both sides of a row run by turns in one process, each with the drawing of its minibatches as its user would write it;
the ratio is the median over rounds of one round's ratio, since times on a shared machine vary more than ratios.
Words: names.txt in the folder $MAKEMORE_DATA_DIR, else the list that makemore ships, else random ones.
"""

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.fast_step import FastStep
from makemore.model import MLP, MLPConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.train import Corpus, TrainConfig, build_corpus, minibatches, one_thread

Loop = Callable[[int], None]  # takes that many training steps
ADAMW = AdamW(weight_decay=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8)  # torch's defaults
LR = 1e-3


@dataclass(frozen=True)
class Sizes:
    block_size: int
    embedding_size: int
    hidden_neurons: int
    batch_size: int

    @property
    def model(self) -> MLPConfig:
        return MLPConfig(self.block_size, self.embedding_size, self.hidden_neurons, dropout=0.0)


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is theirs / ours; for the bare products it is ours / theirs."""

    name: str
    goal: str
    ours_us: float
    theirs_us: float
    ratio: float
    ratio_low: float
    ratio_high: float


def lecture_words() -> tuple[list[str], str]:
    """A list of words and where it comes from."""
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    if folder and (Path(folder) / "names.txt").exists():
        return read_words(Path(folder) / "names.txt"), "names.txt"
    if GIVEN_NAMES.exists():
        return read_words(GIVEN_NAMES), GIVEN_NAMES.name
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=letters.randint(3, 9))) for _ in range(30_000)]
    return words, "random words"


def fast_loop(corpus: Corpus, sizes: Sizes, optimizer: Optimizer, precision: str = "float32") -> Loop:
    generator = torch.Generator().manual_seed(1)
    step = FastStep(MLP(sizes.model, corpus.alphabet.vocab_size, generator), optimizer, generator, precision)

    def loop(steps: int) -> None:
        config = TrainConfig(
            sizes.batch_size, steps, evaluations=1, targets="sampled", discount=0.0, precision=precision
        )
        for x, y in minibatches(corpus, config, steps, generator, "cpu"):
            step.run(x, y, [LR] * len(x))

    return loop


def examples(corpus: Corpus) -> tuple[torch.Tensor, torch.Tensor]:
    every = torch.arange(len(corpus.train))
    return corpus.train.x(every), corpus.train.y(every)


def lecture_loop(corpus: Corpus, sizes: Sizes) -> Loop:
    """Makemore part 2, line by line."""
    Xtr, Ytr = examples(corpus)
    vocab_size, inputs = corpus.alphabet.vocab_size, sizes.block_size * sizes.embedding_size
    g = torch.Generator().manual_seed(2147483647)
    C = torch.randn((vocab_size, sizes.embedding_size), generator=g)
    W1 = torch.randn((inputs, sizes.hidden_neurons), generator=g)
    b1 = torch.randn(sizes.hidden_neurons, generator=g)
    W2 = torch.randn((sizes.hidden_neurons, vocab_size), generator=g)
    b2 = torch.randn(vocab_size, generator=g)
    parameters = [C, W1, b1, W2, b2]
    for p in parameters:
        p.requires_grad = True

    def loop(steps: int) -> None:
        for _ in range(steps):
            ix = torch.randint(0, Xtr.shape[0], (sizes.batch_size,))
            emb = C[Xtr[ix]]
            h = torch.tanh(emb.view(-1, inputs) @ W1 + b1)
            logits = h @ W2 + b2
            loss = F.cross_entropy(logits, Ytr[ix])
            for p in parameters:
                p.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            for p in parameters:
                p.data += -LR * p.grad  # type: ignore[operator]

    return loop


def module_loop(corpus: Corpus, sizes: Sizes, compiled: bool = False) -> Loop:
    """`nn.Module`, autograd and torch's fused AdamW."""
    X, Y = examples(corpus)
    model = MLP(sizes.model, corpus.alphabet.vocab_size, torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    take = torch.compile(step) if compiled else step

    def loop(steps: int) -> None:
        for _ in range(steps):
            ix = torch.randint(0, X.shape[0], (sizes.batch_size,))
            take(X[ix], Y[ix])

    return loop


def products_loop(corpus: Corpus, sizes: Sizes, transposed: bool) -> Loop:
    """The six matrix products of a step and nothing else, as autograd writes them.

    Or `transposed` where the result has short rows, as the fast step writes them, which takes less time.
    """
    n, inputs = sizes.batch_size, sizes.block_size * sizes.embedding_size
    hidden_neurons, vocab_size = sizes.hidden_neurons, corpus.alphabet.vocab_size

    def matrix(rows: int, columns: int, short_rows: bool = False) -> torch.Tensor:
        return torch.randn(columns, rows).t() if short_rows and transposed else torch.randn(rows, columns)

    E, W1, dE, dW1 = (
        matrix(n, inputs),
        matrix(inputs, hidden_neurons),
        matrix(n, inputs, True),
        matrix(inputs, hidden_neurons),
    )
    h, W2, dW2 = matrix(n, hidden_neurons), matrix(hidden_neurons, vocab_size), matrix(hidden_neurons, vocab_size, True)
    z, logits, dh = matrix(n, hidden_neurons), matrix(n, vocab_size, True), matrix(n, hidden_neurons)
    ET, W1T, hT, W2T = E.t(), W1.t(), h.t(), W2.t()

    def loop(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                torch.mm(E, W1, out=z)
                torch.mm(h, W2, out=logits)
                torch.mm(hT, logits, out=dW2)
                torch.mm(logits, W2T, out=dh)
                torch.mm(ET, h, out=dW1)
                torch.mm(h, W1T, out=dE)

    return loop


def compare(name: str, goal: str, ours: Loop, theirs: Loop, steps: int, rounds: int, inverse: bool = False) -> Row:
    """Time both by turns; times and ratio are medians over the rounds, with the ratio's quartiles."""
    times: tuple[list[float], list[float]] = ([], [])
    for loop in (ours, theirs):
        loop(max(5, steps // 10))
    for _ in range(rounds):
        for loop, seconds in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            loop(steps)
            seconds.append((time.perf_counter() - start) / steps * 1e6)
    ratios = [a / b if inverse else b / a for a, b in zip(*times, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(name, goal, statistics.median(times[0]), statistics.median(times[1]), middle, low, high)


def measure(rounds: int, compiled: bool) -> tuple[list[Row], str]:
    words, source = lecture_words()
    split, alphabet = split_words(words, "lecture", seed=42), Alphabet.of(words)
    small, large = Sizes(3, 10, 200, 32), Sizes(8, 24, 500, 512)
    near, far = (build_corpus(split, alphabet, sizes.block_size) for sizes in (small, large))
    sgd = SGD(weight_decay=0.0)
    a, b = "block 3, emb 10, hidden 200, batch 32", "block 8, emb 24, hidden 500, batch 512"
    ours, adamw = fast_loop(near, small, sgd), fast_loop(near, small, ADAMW)
    rows = [
        compare(f"{a}, SGD / lecture's loop", ">= 2.8", ours, lecture_loop(near, small), 1000, rounds),
        compare(
            f"{a}, SGD / its products", "<= 2", ours, products_loop(near, small, False), 1000, rounds, inverse=True
        ),
        compare(
            f"{a}, SGD / its products, best layouts",
            "",
            ours,
            products_loop(near, small, True),
            1000,
            rounds,
            inverse=True,
        ),
        compare(f"{a}, AdamW / module", ">= 2.5", adamw, module_loop(near, small), 1000, rounds),
    ]
    for precision, goal in (("float32", ">= 2"), ("bfloat16", "3.5 with AMX")):
        ours = fast_loop(far, large, ADAMW, precision)
        rows.append(compare(f"{b}, AdamW {precision} / module", goal, ours, module_loop(far, large), 50, rounds))
    if compiled:
        for sizes, corpus, name, steps in ((small, near, a, 1000), (large, far, b, 50)):
            theirs = module_loop(corpus, sizes, compiled=True)
            rows.append(
                compare(f"{name}, AdamW / compiled module", "", fast_loop(corpus, sizes, ADAMW), theirs, steps, rounds)
            )
    return rows, source


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a training step takes, beside plain torch.")
    parser.add_argument("--rounds", type=int, default=15, help="how often each side is timed")
    parser.add_argument("--compile", action="store_true", help="also compare with torch.compile, which takes a while")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    with one_thread():
        rows, source = measure(arguments.rounds, arguments.compile)
    processor = torch.cpu.get_capabilities()
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": bool(processor.get("avx512_bf16")),
        "amx_bf16": bool(processor.get("amx_bf16")),
        "words": source,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"| {'ours / theirs':74} | ours us | theirs us | ratio | quartiles   | goal         |")
    print(f"|{'-' * 76}|--------:|----------:|------:|-------------|--------------|")
    for row in rows:
        quartiles = f"{row.ratio_low:.2f} - {row.ratio_high:.2f}"
        print(
            f"| {row.name:74} | {row.ours_us:7.1f} | {row.theirs_us:9.1f} | {row.ratio:5.2f} | {quartiles} "
            f"| {row.goal:12} |"
        )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
