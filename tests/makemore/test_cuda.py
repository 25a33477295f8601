import pytest
import torch

from makemore.corpus import build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.mlp import MLPConfig
from makemore.optimizer import AdamW
from makemore.schedule import Cosine
from makemore.train import TrainConfig, train


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize(
    ("targets", "model"),
    [
        *((targets, MLPConfig(3, 10, 50, 0.1)) for targets in ("sampled", "distribution", "kneser_ney")),
        ("sampled", MLPConfig(3, 10, 50, 0.1, direct=True)),
        ("sampled", MLPConfig(3, 10, 0, 0.1)),
    ],
)
def test_a_cuda_device_trains_the_same_run_as_the_cpu(targets: str, model: MLPConfig) -> None:
    words = read_words(GIVEN_NAMES)
    corpus = build_corpus(split_words(words, "disjoint", 42), Alphabet.of(words), 3)
    config = TrainConfig(32, 200, 2, targets, 0.8, "float32")
    losses = [
        train(
            corpus,
            model,
            AdamW(0.01, 0.9, 0.999, 1e-8),
            Cosine(0.005, 0.05, 0.0),
            config,
            0,
            device,
        ).best_dev_loss
        for device in ("cpu", "cuda")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)  # float32 sums in another order, over 200 steps
