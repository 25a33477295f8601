"""Paired differences of dev losses: two models on the same words differ by less than their losses vary."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from optuna.trial import TrialState
from torch import Tensor

from makemore.bootstrap import intervals
from makemore.train import generator_for, one_thread
from sweeps.errors import RequestError
from sweeps.task.recorded import read_recorded, read_recorded_config
from sweeps.tracking.store import TrackingStore, words_digest

DIFFERENCE = ["difference", "difference_low", "difference_high"]


def differences(store: TrackingStore, runs: pd.DataFrame, baseline: "pd.Series[Any]") -> pd.DataFrame:
    """By how much each run's dev loss is above the baseline's, in nats per character, with 95 % intervals over words.

    Losses are computed from the recorded weights, each model's once; the intervals draw the same words for all.

    Args:
        runs: with columns run_id, state and dev_words, in any order.
        baseline: a row of the same columns.

    Returns:
        The columns of `DIFFERENCE`, by run_id; only runs with weights are in it.

    Raises:
        RequestError: the baseline has no weights, a run has other dev words, or the list has changed since.
    """
    run_id = str(baseline["run_id"])
    other = runs.loc[runs["dev_words"].notna() & (runs["dev_words"] != baseline["dev_words"]), "run_id"]
    if len(other):
        raise RequestError(
            f"baseline is {run_id}; run {other.iloc[0]} has other dev words: losses differ word by word only on the "
            "same data, data.split and data.split_seed"
        )
    config = read_recorded_config(store.fetch_artifact(run_id, "config.yaml"))
    source = config.deal_items()
    if words_digest(source, "dev") != baseline["dev_words"]:
        where = source.path or source.name
        raise RequestError(
            f"baseline is {run_id}; {where} is not the list of {config.task.item}s that it was made with"
        )
    finished = list(runs.loc[runs["state"] == TrialState.COMPLETE.name, "run_id"])
    if not finished:
        return pd.DataFrame(columns=DIFFERENCE, dtype=float)
    losses, characters = recorded_losses(store, [run_id, *finished], source.split.dev)
    rows = means(losses[:, 1:] - losses[:, :1], characters)
    return pd.DataFrame(rows, columns=DIFFERENCE, index=pd.Index(finished))


def recorded_losses(store: TrackingStore, run_ids: Sequence[str], words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each word the loss in nats of each run's recorded weights, (n, k), and its characters, (n,); float64."""
    found = {}
    with one_thread():
        for run_id in dict.fromkeys(run_ids):
            recorded = read_recorded(
                store.fetch_artifact(run_id, "config.yaml"), store.fetch_artifact(run_id, "weights.safetensors")
            )
            found[run_id] = recorded.config.task.losses(recorded.trained, words)
    losses = torch.stack([found[run_id][0] for run_id in run_ids], dim=1)
    return losses, found[run_ids[0]][1]


def means(losses: Tensor, characters: Tensor) -> list[tuple[float, float, float]]:
    """The mean per character of each column of losses by word (n, k), and the ends of its 95 % interval over words."""
    bounds = intervals(losses, characters, generator_for(0, "intervals"))  # the same losses have the same interval
    found = (losses.sum(0) / characters.sum()).tolist()
    return [(mean, low, high) for mean, (low, high) in zip(found, bounds, strict=True)]
