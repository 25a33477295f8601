"""New words from a trained model."""

from itertools import takewhile

import torch
from torch import Tensor, nn

from makemore.data import Alphabet
from makemore.evaluate import device_of, evaluating
from makemore.limits import check
from makemore.model import ModelConfig
from makemore.ranks import rank_rows

_ROWS = 100_000  # words drawn at a time: it bounds the memory
_FEW = 200  # contexts: sorting out the distinct ones among so few takes longer than evaluating them all
_CONTEXTS = 2_000  # evaluated at a time: their hidden layer stays in cache


@torch.no_grad()
def sample_words(
    config: ModelConfig,
    model: nn.Module,
    alphabet: Alphabet,
    n: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    max_length: int = 50,
    prefix: str = "",
) -> list[str]:
    """`n` words drawn character by character, all at once.

    Args:
        temperature: divides the logits; 1 samples the model's own distribution, less makes likely words likelier.
        max_length: of the characters after the prefix; a word that is not finished by then ends there.
        prefix: the beginning of every word.

    Raises:
        ValueError: a character of the prefix is not in the alphabet.
    """
    check("n", n, low=1, high=10_000_000)
    check("temperature", temperature, low=1e-6, high=1e6)
    block_size = config.block_size
    rows = torch.arange(n)
    first = block_size + len(prefix)
    tokens = torch.zeros(n, first + max_length, dtype=torch.int64)  # a word ends at its first boundary
    for at, character in enumerate(prefix, start=block_size):
        if character not in alphabet.characters:
            raise ValueError(f"the character {character!r} is not in the alphabet {alphabet.characters!r}")
        tokens[:, at] = alphabet.stoi[character]
    with evaluating(model):
        for position in range(first, first + max_length):
            x = tokens[:, position - block_size : position]
            unfinished = []
            for some in torch.split(rows, _ROWS):
                logits, place = _distinct_logits(config, model, x[some], alphabet.vocab_size)
                if position == block_size:
                    logits[:, 0] = -torch.inf  # a word has at least one character
                probabilities = torch.softmax(logits / temperature, dim=1)[place]
                token = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
                tokens[some, position] = token
                unfinished.append(some[token != 0])
            rows = torch.cat(unfinished)
            if len(rows) == 0:
                break
    itos = alphabet.itos
    return ["".join(itos[token] for token in takewhile(bool, row)) for row in tokens[:, block_size:].tolist()]


def _distinct_logits(config: ModelConfig, model: nn.Module, x: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Logits of the distinct contexts among x (n, block_size), (m, vocab_size) float64, and the row of each x in them.

    Many words begin alike, and evaluating the model is most of the work, except for few words.
    """
    place = torch.arange(len(x))
    if len(x) > _FEW:
        count, place = rank_rows(x.unbind(1), len(x), vocab_size)
        example_of = torch.empty(count, dtype=torch.int64)
        example_of[place] = torch.arange(len(x))
        x = x[example_of]
    device = device_of(model)
    blocks = [config.next_logits(model, block.to(device)).cpu().double() for block in torch.split(x, _CONTEXTS)]
    return torch.cat(blocks), place
