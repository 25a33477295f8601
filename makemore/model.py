"""The seam for a language model of one's own: a frozen dataclass that builds a module, and what differs between models.

```python
@dataclass(frozen=True)
class GRU(ModelConfig):
    block_size: int
    embedding_size: int
    hidden_neurons: int
    every_position: ClassVar[bool] = True

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module: ...
```
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from makemore import evaluate
from makemore.autograd_step import AutogradStep
from makemore.contexts import DistinctContexts
from makemore.corpus import Corpus
from makemore.data import Alphabet
from makemore.optimizer import Optimizer
from makemore.probe import ModelError, probe
from makemore.random_state import PrivateRandomState
from makemore.schedule import Schedule
from makemore.train import (
    Evaluation,
    Stepper,
    TrainConfig,
    TrainResult,
    count_parameters,
    generator_for,
    train,
)

__all__ = ["ModelConfig", "ModelError"]


class ModelConfig(ABC):
    """Base class of models: subclass it as a frozen dataclass whose fields are the hyperparameters.

    Only `block_size` and `build` are required. The other methods suit any module; override one where your model has a
    better answer.
    """

    # False: the module maps contexts (n, block_size) int64, padded on the left with token 0, the boundary, to logits
    # (n, vocab_size) of the next character.
    # True: it maps sequences (n, block_size) int64, padded on the right, to logits (n, block_size, vocab_size) of the
    # character after each position, and looks at no later position: recurrent nets, transformers.
    every_position: ClassVar[bool] = False
    counted: ClassVar[bool] = False  # True: fitted by counting, without optimizer, schedule, steps and seed
    # What to try against overfitting and underfitting, in words that name the model's own keys.
    overfitting_cure: ClassVar[str] = "more optimizer.weight_decay, or a smaller model"
    underfitting_cure: ClassVar[str] = "a larger model, or a longer model.block_size"

    if TYPE_CHECKING:  # at run time a property here would become the default value of the subclass's field

        @property
        def block_size(self) -> int:
            """The longest context, in characters: a field or a property of the subclass."""

    @abstractmethod
    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        """A module with initial weights, on the CPU.

        Args:
            vocab_size: characters and the boundary.
            generator: for initial weights that you draw yourself. PyTorch's own initialisation, as of nn.Linear, is
                reproducible without it.
        """

    def new(self, vocab_size: int, seed: int) -> nn.Module:
        """The module that `build` makes with a seed; torch's global random state stays as it was."""
        with PrivateRandomState(generator_for(seed, "initialization"), torch.device("cpu")).used():
            return self.build(vocab_size, generator_for(seed, "weights"))

    def restore(self, vocab_size: int, weights: Mapping[str, Tensor]) -> nn.Module:
        """The module whose state_dict() is `weights`, in evaluation mode."""
        model = self.new(vocab_size, seed=0)
        model.load_state_dict(weights)
        return model.eval()

    def check(self, vocab_size: int) -> None:
        """Build a module and try it out before anything is trained.

        Raises:
            ModelError: the module is not what this class promises.
        """
        probe(self, vocab_size)

    def parameters(self, vocab_size: int) -> int:
        """Trainable numbers in the model."""
        return count_parameters(self.new(vocab_size, seed=0))

    def decayed(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters that weight decay acts on: matrices and the like, but no biases and no scales."""
        return [parameter for parameter in model.parameters() if parameter.dim() >= 2]

    def make_step(self, model: nn.Module, optimizer: Optimizer, config: TrainConfig, seed: int, device: str) -> Stepper:
        """What takes the training steps on a module that is on `device`."""
        return AutogradStep(model, optimizer, self.decayed(model), generator_for(seed, "dropout"))

    def fit(
        self,
        corpus: Corpus,
        optimizer: Optimizer,
        schedule: Schedule,
        config: TrainConfig,
        seed: int,
        device: str = "cpu",
        report: Callable[[int, float], None] = lambda step, dev_loss: None,
        curve: list[Evaluation] | None = None,
        start: Mapping[str, Any] | None = None,
        offer: Callable[[Callable[[], dict[str, Any]]], None] = lambda make_state: None,
    ) -> TrainResult:
        """A trained model; arguments and errors are those of `makemore.train.train`."""
        return train(corpus, self, optimizer, schedule, config, seed, device, report, curve, start, offer)

    def evaluations(self, config: TrainConfig) -> int:
        """How many times `fit` reports."""
        return 1 if self.counted else config.evaluations

    def next_logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits of the next character, (n, vocab_size), also for a module that gives logits at every position.

        Args:
            x: contexts, (n, block_size) int64 on the model's device, padded on the left with token 0, the boundary.
        """
        return evaluate.next_logits(model, x, self.every_position)

    def mean_loss(self, model: nn.Module, contexts: DistinctContexts) -> float:
        """Mean negative log-likelihood of a split, in nats per character, given its distinct contexts.

        Raises:
            ValueError: the split is empty.
        """
        return evaluate.mean_loss(model, contexts, self.every_position)

    def word_losses(self, model: nn.Module, words: Sequence[str], alphabet: Alphabet) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of each word, in nats, and its number of next characters; both (n,) float64."""
        return evaluate.word_losses(model, words, alphabet, self.block_size, self.every_position)

    @property
    def unsmoothed_key(self) -> str | None:
        """The key whose value lets the model find characters impossible, so that losses may be infinite; or None."""
        return None

    def embedding(self, model: nn.Module) -> Tensor | None:
        """A vector for each token, (vocab_size, embedding_size), for a picture; None: there is nothing to draw."""
        return None

    def saturated(self, model: nn.Module, x: Tensor) -> float:
        """Share of hidden values, in [0, 1], that let no gradient pass at contexts x (n, block_size); 0 if unknown."""
        return 0.0
