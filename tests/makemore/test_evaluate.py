import pytest
import torch

from makemore.data import Alphabet
from makemore.evaluate import sum_by_word, word_losses
from makemore.mlp import MLP, MLPConfig


def test_losses_of_words_are_their_characters_summed() -> None:
    alphabet = Alphabet.of("abc")
    words = ["abca", "b", "cc"]
    model = MLP(MLPConfig(2, 3, 5, 0.0), 4, torch.Generator().manual_seed(1))
    losses, characters = word_losses(model, words, alphabet, 2)
    for word, loss, count in zip(words, losses.tolist(), characters.tolist(), strict=True):
        text = ".." + word + "."
        tokens = [alphabet.stoi[character] for character in text]
        logits = model(torch.tensor([tokens[i - 2 : i] for i in range(2, len(tokens))]))
        picked = torch.log_softmax(logits, 1)[range(len(tokens) - 2), tokens[2:]]
        assert loss == pytest.approx(-picked.sum().item(), abs=1e-6)
        assert count == len(word) + 1
    assert sum_by_word(torch.ones(10, dtype=torch.float64), ["abca", "b", "cc"])[0].tolist() == [5.0, 2.0, 3.0]
