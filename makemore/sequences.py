"""Words as sequences, for modules that give logits at every position.

A next character is predicted from the last `block_size` tokens before it, exactly as by modules that take contexts.
The context of a word's first characters starts at one boundary, so one sequence [boundary, c1, c2, ...] predicts them
all. Each character further on than `block_size` has a window of its own, of which only the last position counts.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from makemore.ranks import rank_rows

if TYPE_CHECKING:
    from makemore.contexts import Examples

_NOTHING = -100  # the target that torch's cross_entropy ignores
_ROWS = 65_536  # contexts that are turned into sequences at a time: it bounds the memory


@dataclass(frozen=True)
class Sequences:
    """The training sequences of whole words: each example is predicted by exactly one position of one sequence.

    Sequence i predicts the examples `offsets[i]` to `offsets[i + 1]`.
    """

    examples: "Examples"
    offsets: Tensor  # (n + 1,) int64
    is_first: Tensor  # whether a sequence starts at its word's boundary, (n,) bool

    def __len__(self) -> int:
        return len(self.is_first)

    def _windows(self, index: Tensor, shift: int) -> Tensor:
        """The stream from each sequence's first token on, `shift` tokens later, (*index.shape, block_size) int64."""
        block_size = self.examples.block_size
        first_target = self.examples.positions[self.offsets[index]].long()
        start = torch.where(self.is_first[index], first_target - 1, first_target - block_size)
        return self.examples.stream.unfold(0, block_size, 1)[start + shift].long()

    def x(self, index: Tensor) -> Tensor:
        """Tokens of the sequences `index` (any shape), (*index.shape, block_size) int64, padded with boundaries."""
        return self._windows(index, 0)

    def y(self, index: Tensor) -> Tensor:
        """Next characters at each position, int64 of the same shape as x; -100 where nothing is predicted."""
        return self._windows(index, 1).masked_fill_(self.example_of(index) < 0, _NOTHING)

    def example_of(self, index: Tensor) -> Tensor:
        """The example that each position predicts, int64 of the same shape as x; -1 where nothing is predicted."""
        block_size = self.examples.block_size
        first, stop = self.offsets[index].unsqueeze(-1), self.offsets[index + 1].unsqueeze(-1)
        first_position = torch.where(self.is_first[index], 0, block_size - 1).unsqueeze(-1)
        example = first + torch.arange(block_size) - first_position
        return example.masked_fill_((example < first) | (example >= stop), -1)


def build_sequences(examples: "Examples") -> Sequences:
    """The training sequences of examples that `build_examples` made, in their order."""
    positions = examples.positions.long()
    at = torch.arange(len(positions))
    starts_word = examples.stream[positions - 1] == 0
    word = starts_word.cumsum(0) - 1
    characters_before = at - at[starts_word][word]
    starts_sequence = starts_word | (characters_before >= examples.block_size)
    offsets = torch.cat([at[starts_sequence], torch.tensor([len(positions)])])
    return Sequences(examples, offsets, starts_word[starts_sequence])


def sequences_of(contexts: Tensor) -> tuple[Tensor, Tensor]:
    """Contexts padded on the left (n, block_size) as sequences padded on the right, and the position to read, (n,).

    A context of j < block_size characters becomes [boundary, c1, ..., cj, padding] and is read at position j; a context
    without a boundary stays as it is and is read at its last position.
    """
    block_size = contexts.shape[1]
    characters = ((contexts == 0).flip(1).cumsum(1) == 0).sum(1)  # behind the last boundary
    start = (block_size - 1 - characters).clamp_(min=0)
    columns = start.unsqueeze(1) + torch.arange(block_size, device=contexts.device)
    sequences = contexts.gather(1, columns.clamp(max=block_size - 1)).masked_fill_(columns >= block_size, 0)
    return sequences, characters.clamp_(max=block_size - 1)


@dataclass(frozen=True)
class SharedSequences:
    """The fewest sequences from which all contexts can be read: a context that begins a longer one needs none.

    Sequence i serves the contexts `context[k]`, read at `position[k]`, for k from `offsets[i]` to `offsets[i + 1]`.
    """

    x: Tensor  # (n, block_size) of the contexts' dtype
    offsets: Tensor  # (n + 1,) int64
    context: Tensor  # (contexts,) int64
    position: Tensor  # (contexts,) int64

    def __len__(self) -> int:
        return len(self.x)


def share_prefixes(contexts: Tensor, vocab_size: int) -> SharedSequences:
    """The shared sequences of contexts (n, block_size), which are padded on the left."""
    parts = [sequences_of(part) for part in torch.split(contexts, _ROWS)]
    sequences, position = torch.cat([x for x, _ in parts]), torch.cat([position for _, position in parts])
    # In lexicographic order a sequence stands right before those that it begins: padding is the smallest token.
    order = rank_rows(sequences.unbind(1), len(sequences), vocab_size)[1].argsort(stable=True)
    sequences, position = sequences[order], position[order]
    read = torch.arange(contexts.shape[1]) <= position[:-1].unsqueeze(1)
    begins_next = ~((sequences[:-1] != sequences[1:]) & read).any(1)
    kept = torch.cat([~begins_next, torch.ones(1, dtype=torch.bool)]).nonzero().squeeze(1)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), kept + 1])
    return SharedSequences(sequences[kept], offsets, order, position)
