"""What a letter costs that is in the alphabet and in no word of train or dev, as a letter of test words alone would be.

    python benchmarks/alphabet.py [--rounds SEEDS] [--json PATH]

The alphabet is made of the whole list. Each model is trained with the letters of train and dev, and again with one,
five or thirty more that no word has; dev losses are compared seed by seed. Test words are not read.
"""

import statistics

from common import finish, load_words, parse_arguments

from makemore.corpus import build_corpus
from makemore.data import Alphabet, Split, split_words
from makemore.mlp import MLPConfig
from makemore.optimizer import AdamW
from makemore.schedule import Cosine
from makemore.train import TrainConfig, one_thread, train

MORE = (1, 5, 30)


def dev_loss(split: Split, more: int, seed: int) -> float:
    """The dev loss of a small model, with so many letters more in its alphabet."""
    known = Alphabet.of([*split.train, *split.dev])
    alphabet = Alphabet(known.characters + "".join(chr(0x4E00 + number) for number in range(more)))
    config = TrainConfig(256, steps=2000, evaluations=1, targets="distribution", discount=0.0, precision="float32")
    model = MLPConfig(block_size=3, embedding_size=10, hidden_neurons=200, dropout=0.0)
    schedule = Cosine(lr=0.004, warmup=0.05, final_factor=0.0)
    return train(
        build_corpus(split, alphabet, 3), model, AdamW(0.0, 0.9, 0.999, 1e-8), schedule, config, seed
    ).best_dev_loss


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], rounds=5).parse_args()
    words, name = load_words()
    split, seeds = split_words(words, "lecture", seed=42), range(arguments.rounds)
    with one_thread():
        plain = [dev_loss(split, 0, seed) for seed in seeds]
        rows = [{"letters more": 0, "dev loss": statistics.mean(plain), "difference": 0.0, "sd of differences": 0.0}]
        for more in MORE:
            losses = [dev_loss(split, more, seed) for seed in seeds]
            differences = [loss - before for loss, before in zip(losses, plain, strict=True)]
            spread = statistics.stdev(differences) if len(differences) > 1 else 0.0
            row = {"letters more": more, "dev loss": statistics.mean(losses)}
            rows.append({**row, "difference": statistics.mean(differences), "sd of differences": spread})
    finish(rows, name, arguments.json)


if __name__ == "__main__":
    main()
