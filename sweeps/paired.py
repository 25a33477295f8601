"""Paired differences of dev losses: two models on the same words differ by less than their losses vary."""

from typing import Any

import pandas as pd
import torch
from omegaconf import OmegaConf
from optuna.trial import TrialState

from makemore.bootstrap import intervals
from makemore.evaluate import word_losses
from makemore.train import generator_for, one_thread
from sweeps.config import DataConfig, read_node
from sweeps.errors import RequestError
from sweeps.sources import load_source
from sweeps.tracking import TrackingStore, words_digest
from sweeps.weights import load_weights

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
    config = OmegaConf.load(store.fetch_artifact(run_id, "config.yaml"))
    source = load_source(read_node(DataConfig, config, "data"))  # type: ignore[arg-type]
    if words_digest(source, "dev") != baseline["dev_words"]:
        raise RequestError(f"baseline is {run_id}; {source.path} is not the list of words that it was made with")
    words = source.split.dev

    def losses_of(one: str) -> tuple[torch.Tensor, torch.Tensor]:
        saved = load_weights(store.fetch_artifact(one, "weights.safetensors"))
        return word_losses(saved.model, words, saved.alphabet, saved.model.config.block_size)

    with one_thread():
        theirs, characters = losses_of(run_id)
        finished = runs.loc[runs["state"] == TrialState.COMPLETE.name, "run_id"]
        ours = {one: losses_of(one)[0] - theirs for one in finished}
    if not ours:
        return pd.DataFrame(columns=DIFFERENCE, dtype=float)
    stacked = torch.stack(list(ours.values()), dim=1)
    means = (stacked.sum(0) / characters.sum()).tolist()
    bounds = intervals(stacked, characters, generator_for(0, "intervals"))  # the same weights have the same interval
    rows = [(mean, low, high) for mean, (low, high) in zip(means, bounds, strict=True)]
    return pd.DataFrame(rows, columns=DIFFERENCE, index=pd.Index(ours))
