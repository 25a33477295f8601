"""Do the lecture_table settings rank as in the notes, as far as the variation between seeds allows a comparison?

    makemore sweep experiment=lecture_table
    python benchmarks/setting_order.py [--study NAME] [--storage URL] [--without NUMBER ...] [--json PATH]

The notes have a single seed of each setting. The study's own seeds show which rank correlation to expect of single
seeds: each of 10,000 repetitions draws one seed of each setting, and correlates their losses with the means of the
settings' other seeds. If the notes agree with the study, their rank correlation looks like one of these.

The table lists the pairs of settings that the notes rank the other way round. It shows how far the two differences
are apart, in standard deviations, and how likely that is by chance (two-sided, normal, Holm's correction for all
pairs).
"""

import argparse
import itertools
import math
import statistics
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import yaml
from common import finish
from scipy.stats import norm, rankdata

from sweeps.config.files import conf_dir

NOTES = (  # test losses, in the order of conf/experiment/lecture_table.yaml
    *(2.3414, 2.5306, 2.3566, 2.3719, 2.3340, 2.1759, 2.1759, 2.1734),
    *(2.2322, 2.1812, 2.1625, 2.2723, 2.1847, 2.1871, 2.1850),
)
REPETITIONS = 10_000


def read_losses(storage: str, name: str) -> list[list[float]]:
    """The dev losses of each setting, one for each seed."""
    settings = yaml.safe_load((conf_dir() / "experiment" / "lecture_table.yaml").read_text())["space"]["settings"]
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return [
        [trial.value for trial in trials if trial.value is not None and setting.items() <= trial.params.items()]
        for setting in settings
    ]


def rank_correlation(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation (n,) of each row of one (n, settings) array with the same row of the other."""
    ranks = [rankdata(losses, axis=-1) for losses in (one, others)]
    centered = [rank - rank.mean(-1, keepdims=True) for rank in ranks]
    norms = [np.linalg.norm(rank, axis=-1) for rank in centered]
    return (centered[0] * centered[1]).sum(-1) / (norms[0] * norms[1])


def repeat(losses: list[list[float]]) -> np.ndarray:
    """The rank correlations (REPETITIONS,) of one drawn seed of each setting with the means of its other seeds."""
    generator = np.random.default_rng(0)
    drawn, means = np.empty((REPETITIONS, len(losses))), np.empty((REPETITIONS, len(losses)))
    for column, seeds in enumerate(losses):
        index = generator.integers(len(seeds), size=REPETITIONS)
        drawn[:, column] = np.take(seeds, index)
        means[:, column] = (sum(seeds) - drawn[:, column]) / (len(seeds) - 1)
    return rank_correlation(drawn, means)


def reversed_pairs(losses: dict[int, list[float]]) -> pd.DataFrame:
    """The pairs of settings that the notes rank the other way round, the least likely pair first."""
    rows = []
    for one, other in itertools.combinations(losses, 2):
        ours = statistics.mean(losses[one]) - statistics.mean(losses[other])
        theirs = NOTES[one - 1] - NOTES[other - 1]
        # The variance of the notes' difference (single seeds) plus that of ours (means of seeds).
        variance = sum(statistics.variance(losses[at]) * (1 + 1 / len(losses[at])) for at in (one, other))
        apart = abs(ours - theirs) / math.sqrt(variance)
        rows.append({"pair": f"{one} and {other}", "ours": ours, "notes": theirs, "apart sd": apart})
    pairs = pd.DataFrame(rows).sort_values("apart sd", ascending=False, ignore_index=True)
    chance = 2 * norm.sf(pairs["apart sd"]) * (len(pairs) - pairs.index)
    pairs["by chance"] = np.minimum(1, np.maximum.accumulate(chance))
    return pairs[pairs["ours"] * pairs["notes"] < 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="lecture_table-names")
    parser.add_argument("--storage", default="sqlite:///mlruns/study.db")
    parser.add_argument("--without", type=int, nargs="*", default=[], help="settings to leave out, counted from 1")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbered = dict(enumerate(read_losses(arguments.storage, arguments.study), start=1))
    losses = {number: seeds for number, seeds in numbered.items() if number not in arguments.without}
    notes = np.array([NOTES[number - 1] for number in losses])
    correlation = float(rank_correlation(notes, np.array([statistics.mean(seeds) for seeds in losses.values()])))
    repeated = repeat(list(losses.values()))
    low, middle, high = np.quantile(repeated, [0.025, 0.5, 0.975])
    counts = [len(seeds) for seeds in losses.values()]
    print(f"{min(counts)} to {max(counts)} seeds of {len(losses)} settings")
    print(f"rank correlation of the notes with the means: {correlation:.3f}")
    print(f"of one seed of each with the means of the others: {middle:.3f}, 95 % between {low:.3f} and {high:.3f}")
    print(f"repetitions with no higher a correlation than the notes': {(repeated <= correlation).mean():.1%}\n")
    finish(reversed_pairs(losses).to_dict("records"), "names.txt", arguments.json)


if __name__ == "__main__":
    main()
