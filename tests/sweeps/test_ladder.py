"""The ladder from guessing to a winner, from the command line."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Makemore
from PIL import Image
from torch.nn import functional as F

from makemore.data import GIVEN_NAMES, read_words, split_words
from sweeps.task.item_losses import write_item_losses
from sweeps.task.language_model.weights import load_weights
from sweeps.tracking.store import MlflowClient

TOWNS = Path(__file__).parent.parent / "towns.txt"
TINY = (
    "ladder",
    "space=quick",
    "study.n_trials=2",
    "study.workers=1",
    "study.confirm.top=0",
    "train.steps=100",
    "ladder.smoothing=[0.1,1.0]",
    "ladder.discount=[0.9]",
)
RUNGS = [
    "uniform",
    "unigram",
    "bigram",
    "trigram",
    "fourgram",
    "fivegram",
    "kneser_ney",
    "neural_bigram",
    "mlp",
    "winner",
]


def rungs(makemore: Makemore, *more: str) -> dict[str, dict[str, Any]]:
    answer = makemore(*TINY, "format=json", *more)
    assert answer.code == 0, answer.err
    return {row["rung"]: row for row in json.loads(answer.out)}


def losses_by_word(workdir: Path, run_id: str, words: list[str]) -> list[float]:
    """Each word's loss in nats, character by character."""
    saved = load_weights(workdir / "mlruns/artifacts" / run_id / "artifacts/weights.safetensors")
    block_size, stoi = saved.config.block_size, saved.alphabet.stoi
    losses = []
    for word in words:
        tokens = [0] * block_size + [stoi[character] for character in word] + [0]
        total = 0.0
        for place in range(block_size, len(tokens)):
            logits = saved.module(torch.tensor([tokens[place - block_size : place]])).double()
            total -= F.log_softmax(logits, dim=1)[0, tokens[place]].item()
        losses.append(total)
    return losses


def test_the_ladder_of_the_shipped_list(makemore: Makemore, workdir: Path) -> None:
    found = rungs(makemore)
    assert list(found) == RUNGS
    assert found["uniform"]["dev_loss"] == pytest.approx(math.log(27))
    assert found["bigram"]["chosen"] == "smoothing=1.0"
    assert found["kneser_ney"]["dev_loss"] < found["fourgram"]["dev_loss"] < found["bigram"]["dev_loss"]
    dev = split_words(read_words(GIVEN_NAMES), "disjoint", 42).dev
    with torch.no_grad():
        below, above = (losses_by_word(workdir, found[rung]["run_id"], dev) for rung in ("neural_bigram", "mlp"))
    characters = sum(len(word) + 1 for word in dev)
    assert found["mlp"]["dev_loss"] == pytest.approx(sum(above) / characters, abs=1e-6)
    assert found["mlp"]["difference"] == pytest.approx((sum(above) - sum(below)) / characters, abs=1e-6)
    for row in found.values():
        assert row["dev_loss_low"] <= row["dev_loss"] <= row["dev_loss_high"]
        assert row["difference"] is None or row["difference_low"] < row["difference"] < row["difference_high"]
    with Image.open(workdir / "ladder.png") as image:
        assert image.size[0] == 900
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    [parent] = client.search_runs(["1"], "tags.kind = 'ladder'")
    assert parent.info.status == "FINISHED"
    assert "| kneser_ney" in parent.data.tags["mlflow.note.content"]
    children = client.search_runs(["1"], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert {run.info.run_name for run in children} == set(RUNGS[:-1])
    sampled = makemore("sample", f"run={found['kneser_ney']['run_id']}", "n=5")
    assert len(sampled.out.splitlines()) == 6
    # Repeated, it trains nothing, and says the same.
    assert rungs(makemore) == found
    assert len(client.search_runs(["1"])) == len(children) + 1 + 3
    # It believes the losses that a run has recorded, and evaluates the weights of a run that has recorded none.
    folder = workdir / "mlruns/artifacts" / found["mlp"]["run_id"] / "artifacts"
    terms = torch.tensor([len(word) + 1 for word in dev])
    write_item_losses(folder / "dev_losses.safetensors", torch.tensor(above) + 0.5 * terms, terms)
    again = rungs(makemore)
    assert again["mlp"]["dev_loss"] == pytest.approx(found["mlp"]["dev_loss"] + 0.5, abs=1e-6)
    assert again["mlp"]["difference"] == pytest.approx(found["mlp"]["difference"] + 0.5, abs=1e-6)
    (folder / "dev_losses.safetensors").unlink()
    assert rungs(makemore)["mlp"]["dev_loss"] == pytest.approx(found["mlp"]["dev_loss"], abs=1e-6)


def test_the_ladder_of_a_list_of_towns(makemore: Makemore, workdir: Path) -> None:
    shutil.copy(TOWNS, workdir / "towns.txt")
    answer = makemore(*TINY, "data=file", "data.path=towns.txt", "study.name=towns", "ladder.picture=null")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(RUNGS) + 1]] == RUNGS
    assert "disjoint split of towns.txt" in answer.out
    assert re.search(r"95 % intervals over \d+ dev words", answer.out)
    assert not (workdir / "ladder.png").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=html"], "format is html; it must be table or csv or json or markdown"),
        (["ladder.rungs.mlp.hidden_neurons=[1,2]"], "one value; n-grams alone may have a list of them"),
        (["ladder.rungs.bigram.order=9"], "ladder.rungs.bigram: model.order is 9"),
        (["ladder.picture=a.txt"], "picture is a.txt; it must be null, or a .png file in a folder that exists"),
        (["ladder.steps=3"], "ladder"),
        (["data=file", "data.path=nowhere.txt"], "nowhere.txt"),
        (["study.n_trials=0"], "study.n_trials is 0"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(
    makemore: Makemore, workdir: Path, overrides: list[str], message: str
) -> None:
    before = (workdir / "mlruns/mlflow.db").read_bytes()
    answer = makemore(*TINY, *overrides)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not (workdir / "mlruns/study.db").exists()
    assert (workdir / "mlruns/mlflow.db").read_bytes() == before
