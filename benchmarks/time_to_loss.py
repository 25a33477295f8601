"""How long the lecture's model takes to reach dev loss 2.17, and which dev loss a single trial reaches in 30 s.

    MAKEMORE_DATA_DIR=... python benchmarks/time_to_loss.py [--rounds N] [--json PATH]

names.txt, the lecture's split, one thread. Times are seconds of training steps without evaluations; the two sides take
turns, and each round has another seed. In the first row both sides train the lecture's model: block size 3, embedding
10, hidden 200. The lecture's loop takes 200,000 steps with an evaluation every 2,000 steps, and is timed up to the
first dev loss of 2.17 or lower. Our side runs a recipe that is tuned for this and evaluates at its end.
"""

import math
import statistics
import time
from collections.abc import Iterator

import torch
from common import finish, load_words, parse_arguments
from torch import Tensor
from torch.nn import functional as F

from makemore.corpus import Corpus, build_corpus
from makemore.data import Alphabet, split_words
from makemore.mlp import MLPConfig
from makemore.optimizer import AdamW
from makemore.schedule import Cosine, OneCycle
from makemore.train import TrainConfig, TrainResult, one_thread, train

TARGET = 2.17
LECTURE_STEPS = 200_000
ADAMW = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def fast_recipe(corpus: Corpus, seed: int) -> TrainResult:
    """The lecture's model, trained with a short recipe that reaches the target."""
    config = TrainConfig(128, 350, 1, "kneser_ney", 0.8, "auto")
    schedule = OneCycle(0.03, warmup=0.15, initial_factor=0.04, final_factor=0.0)
    return train(corpus, MLPConfig(3, 10, 200, 0.0), AdamW(0.0, **ADAMW), schedule, config, seed=seed)


def best_recipe(corpus: Corpus, seed: int) -> TrainResult:
    """The model with the lowest dev loss that we know how to reach in 30 s of training."""
    config = TrainConfig(256, 7000, 10, "kneser_ney", 0.65, "auto")
    schedule = Cosine(0.0045, warmup=0.05, final_factor=0.0)
    return train(corpus, MLPConfig(7, 32, 1200, 0.1), AdamW(0.06, **ADAMW), schedule, config, seed=seed)


def lecture_run(X: Tensor, Y: Tensor, Xdev: Tensor, Ydev: Tensor, seed: int) -> Iterator[tuple[float, float]]:
    """Pairs (seconds of training so far, dev loss) every 2,000 steps of makemore part 2, line by line."""
    g = torch.Generator().manual_seed(2147483647 + seed)
    C = torch.randn((27, 10), generator=g)
    W1 = torch.randn((30, 200), generator=g)
    b1 = torch.randn(200, generator=g)
    W2 = torch.randn((200, 27), generator=g)
    b2 = torch.randn(27, generator=g)
    parameters = [C, W1, b1, W2, b2]
    for p in parameters:
        p.requires_grad = True
    seconds = 0.0
    for first in range(0, LECTURE_STEPS, 2000):
        start = time.perf_counter()
        for i in range(first, first + 2000):
            ix = torch.randint(0, X.shape[0], (32,), generator=g)
            emb = C[X[ix]]
            h = torch.tanh(emb.view(-1, 30) @ W1 + b1)
            logits = h @ W2 + b2
            loss = F.cross_entropy(logits, Y[ix])
            for p in parameters:
                p.grad = None
            loss.backward()
            lr = 0.1 if i < 100_000 else 0.01
            for p in parameters:
                p.data += -lr * p.grad
        seconds += time.perf_counter() - start
        with torch.no_grad():
            logits = torch.tanh(C[Xdev].view(-1, 30) @ W1 + b1) @ W2 + b2
            yield seconds, F.cross_entropy(logits, Ydev).item()


def time_lecture(examples: tuple[Tensor, ...], seed: int) -> tuple[float, float]:
    """Seconds to the target, or of the whole run if it does not reach the target, and the dev loss at that time."""
    point = (0.0, math.inf)
    for point in lecture_run(*examples, seed):
        if point[1] <= TARGET:
            break
    return point


def measure(words: list[str], rounds: int) -> list[dict[str, object]]:
    split, alphabet = split_words(words, "lecture", seed=42), Alphabet.of(words)
    near, far = build_corpus(split, alphabet, 3), build_corpus(split, alphabet, 7)
    train_index = torch.arange(len(near.train))
    dev = near.dev_contexts
    X, Y = near.train.x(train_index), near.train.y(train_index)
    Xdev, Ydev = dev.x[dev.index.long()].long(), dev_targets(split.dev, alphabet)
    times, theirs, reached, best = [], [], [], []
    fast_recipe(near, seed=0)  # warm-up
    for seed in range(1, rounds + 1):
        result = fast_recipe(near, seed)
        times.append(result.train_seconds)
        reached.append(result.best_dev_loss)
        theirs.append(time_lecture((X, Y, Xdev, Ydev), seed))
        best.append(best_recipe(far, seed))
    ratios = [their[0] / our for their, our in zip(theirs, times, strict=True)]
    lowest = [result.best_dev_loss for result in best]
    return [
        {
            "what": f"the lecture's model to dev loss {TARGET}",
            "ours s": statistics.median(times),
            "ours dev": max(reached),
            "lecture s": statistics.median(seconds for seconds, _ in theirs),
            "lecture dev": statistics.median(loss for _, loss in theirs),
            "lecture / ours": statistics.median(ratios),
            "at least": "40",
        },
        {
            "what": "one trial, at most 30 s",
            "ours s": max(result.train_seconds for result in best),
            "ours dev": statistics.mean(lowest),
            "at least": "1.95 or lower",
        },
    ]


def dev_targets(words: list[str], alphabet: Alphabet) -> Tensor:
    return torch.tensor([alphabet.stoi[character] for word in words for character in word + "."])


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=3).parse_args()
    words, source = load_words()
    with one_thread():
        rows = measure(words, arguments.rounds)
    finish(rows, source, arguments.json)


if __name__ == "__main__":
    main()
