"""Training goes on in another process, bitwise as if it had never been ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from own_models import GRU, Feedforward

from makemore.corpus import Corpus, build_corpus
from makemore.data import GIVEN_NAMES, Alphabet, read_words, split_words
from makemore.mlp import MLP, MLPAutogradStep, MLPConfig
from makemore.model import ModelConfig
from makemore.optimizer import SGD, AdamW, Optimizer
from makemore.schedule import Cosine
from makemore.train import Evaluation, Stepper, TrainConfig, generator_for, train
from sweeps.task.state import read_state, write_state

ADAMW = AdamW(weight_decay=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8)
MLP_MODEL = MLPConfig(block_size=3, embedding_size=4, hidden_neurons=16, dropout=0.1)


@dataclass(frozen=True)
class SlowMLP(MLPConfig):
    """The MLP with automatic differentiation, as on CUDA."""

    def make_step(
        self, model: torch.nn.Module, optimizer: Optimizer, config: TrainConfig, seed: int, device: str
    ) -> Stepper:
        assert isinstance(model, MLP)
        return MLPAutogradStep(model, optimizer, generator_for(seed, "dropout"))


class Died(Exception):
    """The training process is gone."""


@pytest.fixture(scope="module")
def words() -> list[str]:
    return read_words(GIVEN_NAMES)[::5]


def corpus_of(words: list[str], block_size: int) -> Corpus:
    return build_corpus(split_words(words, "disjoint", 42), Alphabet.of(words), block_size)


@pytest.mark.parametrize("optimizer", [ADAMW, SGD(weight_decay=0.01)])
@pytest.mark.parametrize(
    "model", [MLP_MODEL, SlowMLP(3, 4, 16, 0.1), Feedforward(), GRU()], ids=lambda model: type(model).__name__
)
def test_training_goes_on_from_a_file_bitwise_as_if_nothing_had_happened(
    tmp_path: Path, words: list[str], model: ModelConfig, optimizer: Optimizer
) -> None:
    corpus = corpus_of(words, model.block_size)
    config = TrainConfig(batch_size=16, steps=95, evaluations=5, targets="distribution", discount=0.8, precision="auto")
    arguments = (corpus, model, optimizer, Cosine(0.01, 0.1, 0.0), config, 3)
    undisturbed: list[Evaluation] = []
    whole = train(*arguments, curve=undisturbed)
    make_state: list[Any] = []
    taken: list[int] = []

    def die(step: int, dev_loss: float) -> None:
        if len(make_state) == 4:
            write_state(tmp_path / "state", make_state[-1]())
            raise Died

    with pytest.raises(Died):
        train(*arguments, report=die, offer=make_state.append)
    torch.manual_seed(123)  # the process that goes on has drawn other numbers
    curve: list[Evaluation] = []
    rest = train(
        *arguments,
        curve=curve,
        start=read_state(tmp_path / "state"),
        report=lambda step, dev_loss: taken.append(step),
    )
    assert taken == [95]
    assert curve == undisturbed
    assert (rest.best_step, rest.best_dev_loss) == (whole.best_step, whole.best_dev_loss)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, rest.model.state_dict()[name]), name
