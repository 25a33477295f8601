"""New words from a trained model."""

import torch
from torch import nn

from makemore.data import Alphabet
from makemore.limits import check


@torch.no_grad()
def sample_words(
    model: nn.Module,
    alphabet: Alphabet,
    block_size: int,
    n: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_length: int = 50,
) -> list[str]:
    """`n` words drawn character by character, all at once.

    Args:
        temperature: divides the logits; 1 samples the model's own distribution, less makes likely words likelier.
        max_length: a word that is not finished by then ends there.
    """
    check("n", n, low=1)
    check("temperature", temperature, low=0, closed="(]")
    device = next(model.parameters()).device
    words: list[str] = []
    while len(words) < n:  # a word of no characters is no word: draw again
        rows = torch.arange(n - len(words))
        tokens = torch.zeros(len(rows), block_size + max_length, dtype=torch.int64)  # a boundary ends what is not set
        for position in range(block_size, block_size + max_length):
            x = tokens[rows, position - block_size : position]
            probabilities = torch.softmax(model(x.to(device)).cpu().double() / temperature, dim=1)
            token = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
            tokens[rows, position] = token
            rows = rows[token != 0]
            if len(rows) == 0:
                break
        itos = alphabet.itos
        for row in tokens[:, block_size:].tolist():
            letters = row[: row.index(0)] if 0 in row else row
            if letters:
                words.append("".join(itos[token] for token in letters))
    return words
