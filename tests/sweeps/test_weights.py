from pathlib import Path

import pytest
import torch
from conftest import Makemore

from makemore.data import GIVEN_NAMES
from makemore.mlp import MLP, MLPConfig
from makemore.ngram import Ngram, NgramConfig
from makemore.train import build_corpus
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import DataConfig, Source, load_source
from sweeps.task.language_model.weights import digest_weights, load_weights, save_weights
from sweeps.tracking.store import MlflowClient

TINY = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8")


@pytest.fixture
def source() -> Source:
    return load_source(DataConfig("given_names", None, "disjoint", 42, "."))


def model(seed: int, hidden_neurons: int = 5, direct: bool = False) -> MLP:
    return MLP(MLPConfig(3, 4, hidden_neurons, 0.0, direct), 27, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "saved", [model(1), model(1, direct=True), model(1, hidden_neurons=0)], ids=["mlp", "direct", "no layer"]
)
def test_weights_come_back_as_they_were_with_what_is_needed_to_use_them(
    tmp_path: Path, source: Source, saved: MLP
) -> None:
    save_weights(tmp_path / "weights.safetensors", saved, source)
    loaded = load_weights(tmp_path / "weights.safetensors")
    assert loaded.model.config == saved.config
    assert loaded.alphabet == source.alphabet
    assert loaded.train_fingerprint == source.split.fingerprint("train")
    for name, weight in saved.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name])


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("estimator", ["additive", "kneser_ney"])
def test_counts_come_back_as_they_were(tmp_path: Path, source: Source, order: int, estimator: str) -> None:
    config = NgramConfig(order, estimator, 0.1, 0.8)
    contexts = build_corpus(source.split, source.alphabet, config.block_size).train_contexts
    saved = Ngram.fit(config, contexts)
    digest = save_weights(tmp_path / "weights.safetensors", saved, source)
    loaded = load_weights(tmp_path / "weights.safetensors").model
    assert loaded.config == config
    assert digest_weights(loaded.state_dict()) == digest
    x = contexts.x[:1000].long().flip(1)  # some of which train has, and some not
    assert torch.equal(loaded(x), saved(x))


def test_equal_weights_have_equal_digests_and_others_other_ones(tmp_path: Path, source: Source) -> None:
    digests = [save_weights(tmp_path / "weights.safetensors", model(seed), source) for seed in (1, 1, 2)]
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
