import pytest
import torch
from own_models import GRU, Feedforward

from makemore.corpus import build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.mlp import MLPConfig
from makemore.model import ModelConfig
from makemore.optimizer import AdamW
from makemore.schedule import Cosine
from makemore.train import TrainConfig, TrainResult

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
TARGETS = ("sampled", "distribution", "kneser_ney")


def fit(model: ModelConfig, targets: str, device: str) -> TrainResult:
    words = read_words(GIVEN_NAMES)
    corpus = build_corpus(split_words(words, "disjoint", 42), Alphabet.of(words), model.block_size)
    config = TrainConfig(32, 200, 2, targets, 0.8, "float32")
    return model.fit(corpus, AdamW(0.01, 0.9, 0.999, 1e-8), Cosine(0.005, 0.05, 0.0), config, 0, device)


@pytest.mark.parametrize(
    ("targets", "model"),
    [
        *((targets, MLPConfig(3, 10, 50, 0.1)) for targets in TARGETS),
        ("sampled", MLPConfig(3, 10, 50, 0.1, direct=True)),
        ("sampled", MLPConfig(3, 10, 0, 0.1)),
        *((targets, GRU(dropout=0.0)) for targets in TARGETS),
        *((targets, Feedforward(dropout=0.0)) for targets in TARGETS),
    ],
)
def test_a_cuda_device_trains_the_same_run_as_the_cpu(targets: str, model: ModelConfig) -> None:
    losses = [fit(model, targets, device).best_dev_loss for device in ("cpu", "cuda")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)  # float32 sums in another order, over 200 steps


def test_dropout_on_a_cuda_device_follows_the_seed_and_leaves_the_global_random_state_as_it_was() -> None:
    model = Feedforward(dropout=0.5)
    before = torch.cuda.get_rng_state()
    first = fit(model, "sampled", "cuda").best_dev_loss
    assert torch.equal(torch.cuda.get_rng_state(), before)
    torch.rand(5, device="cuda")
    assert fit(model, "sampled", "cuda").best_dev_loss == pytest.approx(first, abs=1e-4)  # sums are in no fixed order
