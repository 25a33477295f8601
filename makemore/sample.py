"""New words from a trained model."""

from itertools import takewhile

import torch
from torch import nn

from makemore.data import Alphabet
from makemore.evaluate import device_of
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
    prefix: str = "",
) -> list[str]:
    """`n` words drawn character by character, all at once.

    Args:
        temperature: divides the logits; 1 samples the model's own distribution, less makes likely words likelier.
        max_length: so many characters behind the prefix; a word that is not finished by then ends there.
        prefix: what every word begins with.

    Raises:
        ValueError: a character of the prefix is not in the alphabet.
    """
    check("n", n, low=1, high=10_000_000)
    check("temperature", temperature, low=1e-6, high=1e6)
    device = device_of(model)
    rows = torch.arange(n)
    first = block_size + len(prefix)
    tokens = torch.zeros(n, first + max_length, dtype=torch.int64)  # a boundary ends what is not set
    for place, character in enumerate(prefix, start=block_size):
        if character not in alphabet.characters:
            raise ValueError(f"the character {character!r} is not in the alphabet {alphabet.characters!r}")
        tokens[:, place] = alphabet.stoi[character]
    for position in range(first, first + max_length):
        x = tokens[rows, position - block_size : position]
        logits = model(x.to(device)).cpu().double()
        if position == block_size:
            logits[:, 0] = -torch.inf  # a word of no characters is no word
        token = torch.multinomial(torch.softmax(logits / temperature, dim=1), 1, generator=generator).squeeze(1)
        tokens[rows, position] = token
        rows = rows[token != 0]
        if len(rows) == 0:
            break
    itos = alphabet.itos
    return ["".join(itos[token] for token in takewhile(bool, row)) for row in tokens[:, block_size:].tolist()]
