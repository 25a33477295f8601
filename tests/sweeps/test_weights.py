from pathlib import Path

import pytest
import torch
from conftest import Makemore

from makemore.corpus import build_corpus
from makemore.data import GIVEN_NAMES, split_words
from makemore.mlp import MLPConfig
from makemore.ngram import Ngram, NgramConfig
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import DataConfig, load_words
from sweeps.task.language_model.trained import TrainedModel
from sweeps.task.language_model.weights import load_weights, save_weights
from sweeps.task.weights import digest_weights
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8")


WORDS = load_words(DataConfig("given_names", None, "disjoint", 42, "."))


def mlp(seed: int, hidden_neurons: int = 5, direct: bool = False) -> TrainedModel:
    """An MLP with initial weights, as if it had been trained."""
    config = MLPConfig(3, 4, hidden_neurons, 0.0, direct)
    return TrainedModel(config.new(27, seed), name="mlp", config=config, alphabet=WORDS.alphabet)


@pytest.mark.parametrize(
    "saved", [mlp(1), mlp(1, direct=True), mlp(1, hidden_neurons=0)], ids=["mlp", "direct", "no layer"]
)
def test_weights_come_back_as_they_were_with_what_is_needed_to_use_them(tmp_path: Path, saved: TrainedModel) -> None:
    save_weights(tmp_path / "weights.safetensors", saved, "a fingerprint")
    loaded = load_weights(tmp_path / "weights.safetensors")
    assert (loaded.name, loaded.config) == ("mlp", saved.config)
    assert loaded.alphabet == WORDS.alphabet
    assert loaded.train_fingerprint == "a fingerprint"
    for name, weight in saved.module.state_dict().items():
        assert torch.equal(weight, loaded.module.state_dict()[name])


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("estimator", ["additive", "kneser_ney"])
def test_counts_come_back_as_they_were(tmp_path: Path, order: int, estimator: str) -> None:
    config = NgramConfig(order, estimator, 0.1, 0.8)
    split = split_words(WORDS.words, "disjoint", 42)
    contexts = build_corpus(split, WORDS.alphabet, config.block_size).train_contexts
    saved = Ngram.fit(config, contexts)
    trained = TrainedModel(saved, name="ngram", config=config, alphabet=WORDS.alphabet)
    digest = save_weights(tmp_path / "weights.safetensors", trained, "a fingerprint")
    loaded = load_weights(tmp_path / "weights.safetensors")
    assert loaded.config == config
    assert digest_weights(loaded.module.state_dict()) == digest
    x = contexts.x[:1000].long().flip(1)  # some of which train has, and some not
    assert torch.equal(loaded.module(x), saved(x))


def test_equal_weights_have_equal_digests_and_others_other_ones(tmp_path: Path) -> None:
    digests = [save_weights(tmp_path / "weights.safetensors", mlp(seed), "") for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_same_run_twice_has_the_same_digest(makemore: Makemore, workdir: Path) -> None:
    for seed in (3, 3, 4):
        assert makemore("train", *TINY, f"seed={seed}").code == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir}/mlruns/mlflow.db")
    runs = client.search_runs(["1"])
    digests = [(run.data.params["seed"], run.data.tags["weights_digest"]) for run in runs]
    assert len(set(digests)) == 2
    assert len({digest for _, digest in digests}) == 2


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="is not a weights file of this project"):
        load_weights(GIVEN_NAMES)


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_recorded_config_with_an_interpolation_is_refused(makemore: Makemore, workdir: Path, command: str) -> None:
    assert makemore("train", "train.steps=10").code == 0
    [path] = (workdir / "mlruns/artifacts").rglob("config.yaml")
    path.write_text(path.read_text().replace("split: disjoint", "split: ${oc.env:HOME}"))
    answer = makemore(command, f"run={path.parent.parent.name}")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "data.split contains ${...}, which a recorded config never does" in answer.err
