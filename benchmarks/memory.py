"""How much memory training on a list of ten million items takes, in MiB above what the libraries take.

    python benchmarks/memory.py [--items N] [--block-size N] [--json PATH]

The list is generated, and then read, split, trained on and evaluated in a new process for each kind of targets. The
peak is the operating system's (ru_maxrss), minus the peak of the same work on the shipped list.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import finish, parse_arguments

from makemore.corpus import build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.mlp import MLPConfig
from makemore.optimizer import SGD
from makemore.schedule import Constant
from makemore.train import TrainConfig, train


def write_items(path: Path, items: int) -> None:
    """Write items that look like names: the first half of one shipped name and the second half of another."""
    names = read_words(GIVEN_NAMES)
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, items, 100_000):
            count = min(100_000, items - start)
            firsts, seconds = draw.choices(names, k=count), draw.choices(names, k=count)
            pairs = zip(firsts, seconds, strict=True)
            file.writelines(f"{first[: len(first) // 2 + 1]}{second[len(second) // 2 :]}\n" for first, second in pairs)


def train_on(path: Path, block_size: int, targets: str) -> None:
    """Do the child process's work, and print its peak in MiB, its seconds and the dev loss."""
    start = time.perf_counter()
    words = read_words(path)
    split = split_words(words, "disjoint", 42)
    alphabet = Alphabet.of(words)
    del words
    corpus = build_corpus(split, alphabet, block_size)
    config = TrainConfig(64, 200, 1, targets, 0.8, "auto")
    result = train(corpus, MLPConfig(block_size, 10, 100, 0.0), SGD(0.0), Constant(0.1), config, seed=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(peak, time.perf_counter() - start, result.best_dev_loss)


def measure_child(path: Path, block_size: int, targets: str) -> tuple[float, ...]:
    command = [sys.executable, __file__, "--child", str(path), "--block-size", str(block_size), "--targets", targets]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return tuple(float(number) for number in answer.stdout.split())


def main() -> None:
    parser = parse_arguments(__doc__.splitlines()[0], rounds=1)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--block-size", type=int, default=8)
    parser.add_argument("--child", type=Path, help="internal: train on this file")
    parser.add_argument("--targets", help="internal: with these targets")
    arguments = parser.parse_args()
    if arguments.child:
        train_on(arguments.child, arguments.block_size, arguments.targets)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.txt"
        write_items(path, arguments.items)
        for targets, limit in (("sampled", 2048), ("distribution", 8192), ("kneser_ney", 8192)):
            base, _, _ = measure_child(GIVEN_NAMES, arguments.block_size, targets)
            peak, seconds, dev_loss = measure_child(path, arguments.block_size, targets)
            above = peak - base
            row = {"targets": targets, "peak MiB": peak, "libraries MiB": base, "above MiB": above, "at most": limit}
            rows.append({**row, "seconds": seconds, "dev loss": dev_loss})
    finish(rows, f"{arguments.items} items, block size {arguments.block_size}", arguments.json)


if __name__ == "__main__":
    main()
