"""Helpers of the benchmarks: the words, the timing of two sides in turns, and the output as a table and JSON."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from makemore.data import GIVEN_NAMES, read_words


def load_words() -> tuple[list[str], str]:
    """The words of names.txt in the folder $MAKEMORE_DATA_DIR, or else of the shipped list, and the file's name."""
    folder = os.environ.get("MAKEMORE_DATA_DIR")
    path = Path(folder) / "names.txt" if folder else GIVEN_NAMES
    return read_words(path), path.name


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median seconds of each side, and the median and quartiles of the ratio theirs / ours within a round.

    The sides take turns, because times on a shared machine vary more than ratios. The first turn is not counted.
    """
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(rounds + 1):
        for name, side in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            side()
            if turn > 0:
                seconds[name].append(time.perf_counter() - start)
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return {
        "ours_seconds": statistics.median(seconds["ours"]),
        "theirs_seconds": statistics.median(seconds["theirs"]),
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }


def parse_arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each side is timed")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser


def finish(rows: Sequence[Mapping[str, Any]], words: str, path: Path | None) -> None:
    """Print the machine and the table, and write both as JSON if a path is given."""
    processor = torch.cpu.get_capabilities()
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": bool(processor.get("avx512_bf16")),
        "amx_bf16": bool(processor.get("amx_bf16")),
        "words": words,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4g"))
    if path:
        path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
