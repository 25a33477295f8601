"""How long an exact evaluation and the building of contexts take, compared with plain torch and the lecture's loops.

    python benchmarks/evaluation.py [--rounds N] [--json PATH]

Everything runs on one thread, and the two sides of a row take turns in the same process. The benchmark checks that
both evaluations agree to 1e-6.
"""

from functools import partial

import torch
from common import alternate, finish, load_words, parse_arguments
from torch import Tensor
from torch.nn import functional as F

from makemore.contexts import DistinctContexts, build_examples, distinct_contexts
from makemore.data import Alphabet, split_words
from makemore.evaluate import mean_loss
from makemore.mlp import MLP, MLPConfig
from makemore.train import one_thread


def lecture_dataset(words: list[str], stoi: dict[str, int], block_size: int) -> tuple[Tensor, Tensor]:
    """Makemore part 2, line by line."""
    X, Y = [], []
    for w in words:
        context = [0] * block_size
        for ch in w + ".":
            ix = stoi[ch]
            X.append(context)
            Y.append(ix)
            context = [*context[1:], ix]
    return torch.tensor(X), torch.tensor(Y)


def plain_loss(model: MLP, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return F.cross_entropy(model(x), y).item()


def build_and_aggregate(words: list[str], alphabet: Alphabet, block_size: int) -> DistinctContexts:
    return distinct_contexts(build_examples(words, alphabet, block_size))


def measure(words: list[str], rounds: int) -> list[dict[str, object]]:
    split, alphabet = split_words(words, "lecture", seed=42), Alphabet.of(words)
    rows: list[dict[str, object]] = []

    def add(name: str, goal: str, timed: dict[str, float]) -> None:
        quartiles = f"{timed['ratio_low']:.1f} - {timed['ratio_high']:.1f}"
        times = {"ours ms": timed["ours_seconds"] * 1e3, "theirs ms": timed["theirs_seconds"] * 1e3}
        rows.append({"what": name, **times, "theirs / ours": timed["ratio"], "quartiles": quartiles, "at least": goal})

    for block_size, goal in ((3, "10"), (5, ""), (8, "")):
        model = MLP(MLPConfig(block_size, 10, 200, 0.0), alphabet.vocab_size, torch.Generator().manual_seed(0))
        ours = partial(mean_loss, model, distinct_contexts(build_examples(split.train, alphabet, block_size)))
        theirs = partial(plain_loss, model, *lecture_dataset(split.train, alphabet.stoi, block_size))
        if (difference := abs(ours() - theirs())) > 1e-6:
            raise SystemExit(f"block size {block_size}: the two evaluations differ by {difference}")
        add(f"loss of train, block size {block_size}", goal, alternate(ours, theirs, rounds))
    for block_size in (3, 8):
        build = partial(build_examples, words, alphabet, block_size)
        theirs = partial(lecture_dataset, words, alphabet.stoi, block_size)
        add(f"contexts of all words, block size {block_size}", "20", alternate(build, theirs, rounds))
        both = partial(build_and_aggregate, words, alphabet, block_size)
        add(f"the same, and aggregating them, block size {block_size}", "", alternate(both, theirs, rounds))
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=5).parse_args()
    words, source = load_words()
    with one_thread():
        rows = measure(words, arguments.rounds)
    finish(rows, source, arguments.json)


if __name__ == "__main__":
    main()
