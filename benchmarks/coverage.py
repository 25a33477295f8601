"""How often 95 % intervals cover the truth: over items, paired, over seeds and items, and of a chosen dev loss.

Lists are made up, so that the truth is known. For the chosen dev loss, all settings are equally good: what the best of
them seems better than the others is the luck of having been chosen.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from makemore.bootstrap import intervals
from sweeps.reports.intervals import mean_over_seeds
from sweeps.reports.selection import correct

TRUTH = 2.0
Simulated = tuple[float, float, float, float]  # the plain mean, the mean that is reported, and the ends of its interval


def words(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Losses and lengths of words; a word's characters have a part of their loss in common."""
    characters = torch.randint(2, 12, (n,), generator=generator).double()
    common, own = (torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
    return characters * (TRUTH + 0.5 * common) + characters.sqrt() * own, characters


def over_items(n: int) -> Callable[[torch.Generator], Simulated]:
    """The mean loss of words."""

    def simulate(generator: torch.Generator) -> Simulated:
        losses, characters = words(n, generator)
        mean = float(losses.sum() / characters.sum())
        return mean, mean, *intervals(losses.unsqueeze(1), characters, generator, draws=1000)[0]

    return simulate


def squared_errors(n: int) -> Callable[[torch.Generator], Simulated]:
    """The mean of squared errors, whose distribution is skewed: a task of one's own."""

    def simulate(generator: torch.Generator) -> Simulated:
        losses = TRUTH * torch.randn(n, generator=generator, dtype=torch.float64) ** 2
        mean = float(losses.mean())
        return mean, mean, *intervals(losses.unsqueeze(1), torch.ones_like(losses), generator, draws=1000)[0]

    return simulate


def paired(n: int) -> Callable[[torch.Generator], Simulated]:
    """The difference of two models whose losses go along with each other."""

    def simulate(generator: torch.Generator) -> Simulated:
        losses, characters = words(n, generator)
        other = 0.9 * losses + 0.3 * characters.sqrt() * torch.randn(n, generator=generator, dtype=torch.float64)
        difference = losses - other + (TRUTH - 0.1 * TRUTH) * characters
        mean = float(difference.sum() / characters.sum())
        return mean, mean, *intervals(difference.unsqueeze(1), characters, generator, draws=1000)[0]

    return simulate


def seeds_and_items(seeds: int, n: int, sd: float) -> Callable[[torch.Generator], Simulated]:
    """The mean loss of a setting, of which a seed moves all words by `sd`, and each word by as much again."""

    def simulate(generator: torch.Generator) -> Simulated:
        losses, characters = words(n, generator)
        of_seed = sd * torch.randn(seeds, 1, generator=generator, dtype=torch.float64)
        of_both = sd * torch.randn(seeds, n, generator=generator, dtype=torch.float64)
        interval = mean_over_seeds(losses + characters * (of_seed + of_both), characters)
        return interval.mean, interval.mean, interval.low, interval.high

    return simulate


def chosen(settings: int, n: int, sd: float) -> Callable[[torch.Generator], Simulated]:
    """The dev loss of the best of so many equal settings; a setting moves each word's loss by `sd`."""

    def simulate(generator: torch.Generator) -> Simulated:
        losses, characters = words(n, generator)
        moved = sd * torch.randn(n, settings, generator=generator, dtype=torch.float64)
        table = losses.unsqueeze(1) + characters.unsqueeze(1) * moved
        corrected = correct(table, characters, draws=300)
        plain = float((table.sum(0) / characters.sum()).min())
        return plain, corrected.mean, corrected.low, corrected.high

    return simulate


KINDS: dict[str, Callable[[torch.Generator], Simulated]] = {
    **{f"items, {n} words": over_items(n) for n in (10, 20, 50, 150)},
    **{f"items, {n} squared errors": squared_errors(n) for n in (20, 50, 150)},
    **{f"paired, {n} words": paired(n) for n in (10, 20, 50, 150)},
    **{
        f"seeds and items, {seeds} seeds, {n} words, sd {sd}": seeds_and_items(seeds, n, sd)
        for seeds, n, sd in ((3, 100, 0.02), (3, 500, 0.05), (5, 500, 0.05), (3, 20, 0.1))
    },
    **{
        f"chosen, {settings} settings, {n} words, sd {sd}": chosen(settings, n, sd)
        for settings, n, sd in ((20, 50, 0.3), (50, 100, 0.2), (100, 300, 0.2), (100, 300, 0.5))
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=2000, help="made-up lists of each kind")
    parser.add_argument("--only", default="", help="the beginning of the kinds' names")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind, simulate in KINDS.items():
        if not kind.startswith(arguments.only):
            continue
        generator = torch.Generator().manual_seed(0)
        results = [simulate(generator) for _ in range(arguments.lists)]
        count = len(results)
        rows.append(
            {
                "kind": kind,
                "lists": count,
                "coverage": sum(low <= TRUTH <= high for _, _, low, high in results) / count,
                "plain_minus_truth": math.fsum(plain - TRUTH for plain, *_ in results) / count,
                "reported_minus_truth": math.fsum(mean - TRUTH for _, mean, *_ in results) / count,
                "width": math.fsum(high - low for *_, low, high in results) / count,
            }
        )
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
