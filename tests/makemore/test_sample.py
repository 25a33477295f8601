from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import makemore.sample
from makemore.data import Alphabet
from makemore.mlp import MLPConfig
from makemore.model import ModelConfig
from makemore.sample import sample_words

ALPHABET = Alphabet("abc")


class Bigram(nn.Module):
    """Next-character probabilities by the last token."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(rows).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, -1]]


@dataclass(frozen=True)
class BigramConfig(ModelConfig):
    """For modules that the tests make themselves."""

    block_size: int

    def build(self, vocab_size: int, generator: torch.Generator) -> nn.Module:
        return Bigram([[1.0] * vocab_size] * vocab_size)


def test_words_follow_the_model() -> None:
    model = Bigram([[0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5], [1, 0, 0, 0]])
    words = sample_words(BigramConfig(2), model, ALPHABET, 1000, torch.Generator().manual_seed(0))
    assert set(words) == {"ab", "abc"}
    assert 400 < words.count("ab") < 600  # 500 expected, standard deviation 16


def test_no_word_is_without_characters() -> None:
    model = Bigram([[0.9, 0.1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    assert sample_words(BigramConfig(1), model, ALPHABET, 50, torch.Generator().manual_seed(0)) == ["a"] * 50


def test_a_word_that_does_not_end_is_cut() -> None:
    model = Bigram([[0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    assert sample_words(BigramConfig(3), model, ALPHABET, 2, torch.Generator(), max_length=7) == ["aaaaaaa"] * 2


def test_a_low_temperature_takes_the_likeliest_and_the_same_seed_gives_the_same_words() -> None:
    model = Bigram([[0, 0.6, 0.4, 0], [0.6, 0.2, 0.2, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    cold = sample_words(BigramConfig(1), model, ALPHABET, 20, torch.Generator().manual_seed(0), temperature=0.01)
    assert cold == ["a"] * 20
    first, again = (
        sample_words(BigramConfig(1), model, ALPHABET, 20, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert first == again


def test_every_word_begins_with_the_prefix_and_follows_the_model_from_there() -> None:
    model = Bigram([[0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5], [1, 0, 0, 0]])
    words = sample_words(BigramConfig(2), model, ALPHABET, 100, torch.Generator().manual_seed(0), prefix="cab")
    assert set(words) == {"cab", "cabc"}


def test_a_prefix_of_strange_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="the character 'x' is not in the alphabet"):
        sample_words(BigramConfig(2), Bigram([[1, 1, 1, 1]] * 4), ALPHABET, 1, torch.Generator(), prefix="ax")


def test_asking_once_for_each_distinct_context_draws_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    alphabet = Alphabet("abc")
    config = MLPConfig(3, 4, 16, 0.0)
    model = config.build(alphabet.vocab_size, torch.Generator().manual_seed(0))

    def draw() -> list[str]:
        return sample_words(config, model, alphabet, 500, torch.Generator().manual_seed(1), prefix="b")

    once_each = draw()  # more words than are asked for one by one
    monkeypatch.setattr(makemore.sample, "_FEW", 10_000)
    assert draw() == once_each
    assert len(set(once_each)) > 50


class LastTwo(nn.Module):
    """Logits from the last two tokens, of contexts or at every position; a boundary stands before the first token."""

    def __init__(self, every_position: bool) -> None:
        super().__init__()
        self.every_position = every_position
        self.table = nn.Parameter(torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(0)) * 2)

    def forward(self, x: Tensor) -> Tensor:
        if not self.every_position:
            return self.table[x[:, -2], x[:, -1]]
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        return self.table[before, x]


@dataclass(frozen=True)
class EveryPosition(BigramConfig):
    every_position: ClassVar[bool] = True


@pytest.mark.parametrize("n", [50, 500])  # few words, and more than are asked for one by one
@pytest.mark.parametrize("prefix", ["", "b", "abcabcab"])  # also one that is longer than the context
def test_sequences_and_contexts_draw_the_same_words(n: int, prefix: str) -> None:
    drawn = [
        sample_words(
            config, LastTwo(config.every_position), ALPHABET, n, torch.Generator().manual_seed(1), prefix=prefix
        )
        for config in (BigramConfig(3), EveryPosition(3))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) > 10
    assert max(map(len, drawn[0])) > 3 + len(prefix)
