"""A trained language model, with its config and its alphabet."""

from dataclasses import dataclass, field

import torch

from makemore.corpus import Corpus
from makemore.data import Alphabet
from makemore.model import ModelConfig
from makemore.sample import sample_words
from makemore.train import Evaluation, TrainResult
from sweeps.task.task import Trained


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedModel(Trained):
    """A trained module, the config by which it is evaluated, and the alphabet of its tokens."""

    name: str  # of the model, as in model=NAME
    config: ModelConfig
    alphabet: Alphabet
    result: TrainResult | None = None  # this field and the next ones are set only if this process trained the model
    curve: list[Evaluation] = field(default_factory=list)
    corpus: Corpus | None = None

    def draw_words(self, n: int, temperature: float, generator: torch.Generator, prefix: str) -> list[str]:
        """`n` words, each beginning with the prefix, sampled character by character."""
        return sample_words(self.config, self.module, self.alphabet, n, generator, temperature, prefix=prefix)
