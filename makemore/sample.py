"""New words from a trained model."""

from itertools import takewhile

import torch
from torch import Tensor, nn

from makemore.contexts import rank_rows
from makemore.data import Alphabet
from makemore.evaluate import device_of
from makemore.limits import check

_ROWS = 100_000  # words that are drawn for at a time: it bounds the memory
_FEW = 200  # contexts: finding the distinct ones of so few takes longer than asking the model
_CONTEXTS = 2_000  # that the model has at a time: its hidden layer stays in cache


@torch.inference_mode()
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
    for at, character in enumerate(prefix, start=block_size):
        if character not in alphabet.characters:
            raise ValueError(f"the character {character!r} is not in the alphabet {alphabet.characters!r}")
        tokens[:, at] = alphabet.stoi[character]
    for position in range(first, first + max_length):
        x = tokens[:, position - block_size : position]
        unfinished = []
        for some in torch.split(rows, _ROWS):
            logits, place = _distinct_logits(model, x[some], alphabet.vocab_size, device)
            if position == block_size:
                logits[:, 0] = -torch.inf  # a word of no characters is no word
            probabilities = torch.softmax(logits / temperature, dim=1)[place]
            token = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
            tokens[some, position] = token
            unfinished.append(some[token != 0])
        rows = torch.cat(unfinished)
        if len(rows) == 0:
            break
    itos = alphabet.itos
    return ["".join(itos[token] for token in takewhile(bool, row)) for row in tokens[:, block_size:].tolist()]


def _distinct_logits(model: nn.Module, x: Tensor, vocab_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits of the distinct contexts among x (n, block_size), (m, vocab_size) float64, and where each of x is there.

    Many words have the same beginning, and the model is most of the work; not for a few words.
    """
    if len(x) <= _FEW:
        return model(x.to(device)).cpu().double(), torch.arange(len(x))
    count, place = rank_rows(x.unbind(1), len(x), vocab_size)
    example_of = torch.empty(count, dtype=torch.int64)
    example_of[place] = torch.arange(len(x))
    blocks = [model(block.to(device)).cpu().double() for block in torch.split(x[example_of], _CONTEXTS)]
    return torch.cat(blocks), place
