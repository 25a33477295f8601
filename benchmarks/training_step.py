"""How long a training step takes on one thread, compared with the usual ways to write it in plain torch.

    python benchmarks/training_step.py [--rounds N] [--compile] [--json PATH]

The two sides of a row take turns in the same process, and each draws its minibatches as its user would write it. The
ratio is the median over rounds, because times on a shared machine vary more than ratios. The words are names.txt in
the folder $MAKEMORE_DATA_DIR, or else the shipped list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from common import alternate, finish, load_words, parse_arguments
from torch.nn import functional as F

from makemore.corpus import Corpus, build_corpus
from makemore.data import Alphabet, split_words
from makemore.fast_step import FastStep
from makemore.mlp import MLP, MLPConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.train import TrainConfig, minibatches, one_thread

Loop = Callable[[int], None]  # runs this number of training steps
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
    """A loop with `nn.Module`, autograd and torch's fused AdamW."""
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
    """A loop of the six matrix products of a step and nothing else, as autograd computes them.

    With `transposed`, results with short rows are stored transposed, as in the fast step, which takes less time.
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


def compare(name: str, goal: str, ours: Loop, theirs: Loop, steps: int, rounds: int) -> dict[str, object]:
    """A row of the table: microseconds per step, and the ratio theirs / ours with its quartiles."""
    timed = alternate(partial(ours, steps), partial(theirs, steps), rounds)
    return {
        "step": name,
        "ours us": timed["ours_seconds"] / steps * 1e6,
        "theirs us": timed["theirs_seconds"] / steps * 1e6,
        "theirs / ours": timed["ratio"],
        "quartiles": f"{timed['ratio_low']:.2f} - {timed['ratio_high']:.2f}",
        "at least": goal,
    }


def measure(words: list[str], rounds: int, compiled: bool) -> list[dict[str, object]]:
    split, alphabet = split_words(words, "lecture", seed=42), Alphabet.of(words)
    small, large = Sizes(3, 10, 200, 32), Sizes(8, 24, 500, 512)
    near, far = (build_corpus(split, alphabet, sizes.block_size) for sizes in (small, large))
    sgd = fast_loop(near, small, SGD(weight_decay=0.0))
    a, b = "block 3, emb 10, hidden 200, batch 32", "block 8, emb 24, hidden 500, batch 512"
    plain, best = (products_loop(near, small, transposed) for transposed in (False, True))
    rows = [
        compare(f"{a}, SGD; the lecture's loop", "2.8", sgd, lecture_loop(near, small), 1000, rounds),
        compare(f"{a}, SGD; its six products alone", "0.5", sgd, plain, 1000, rounds),
        compare(f"{a}, SGD; the same in their best layouts", "", sgd, best, 1000, rounds),
        compare(f"{a}, AdamW; module", "2.5", fast_loop(near, small, ADAMW), module_loop(near, small), 1000, rounds),
    ]
    for precision, goal in (("float32", "2"), ("bfloat16", "3.5 with AMX")):
        ours, theirs = fast_loop(far, large, ADAMW, precision), module_loop(far, large)
        rows.append(compare(f"{b}, AdamW, {precision}; module", goal, ours, theirs, 50, rounds))
    if compiled:
        for sizes, corpus, name, steps in ((small, near, a, 1000), (large, far, b, 50)):
            ours, theirs = fast_loop(corpus, sizes, ADAMW), module_loop(corpus, sizes, compiled=True)
            rows.append(compare(f"{name}, AdamW; compiled module", "", ours, theirs, steps, rounds))
    return rows


def main() -> None:
    parser = parse_arguments(__doc__.splitlines()[0], rounds=15)
    parser.add_argument("--compile", action="store_true", help="also compare with torch.compile, which takes a while")
    arguments = parser.parse_args()
    words, source = load_words()
    with one_thread():
        rows = measure(words, arguments.rounds, arguments.compile)
    finish(rows, source, arguments.json)


if __name__ == "__main__":
    main()
