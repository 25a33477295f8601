"""From words to (context, next character) examples: views over one token stream, and their distinct contexts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from makemore.data import Alphabet
from makemore.ranks import rank_rows
from makemore.sequences import SharedSequences, share_prefixes

_WORDS_AT_A_TIME = 500_000  # it bounds the memory: encoding takes some twenty bytes a character
_INT32 = 2**31 - 2**29  # stream positions beyond this one are kept as int64


@dataclass(frozen=True)
class Examples:
    """Every next character of a list of words, with the `block_size` tokens before it.

    All words are in one stream, with `block_size` boundaries before each, so a context is a window of the stream, and
    contexts are copied only when they are asked for.
    """

    stream: Tensor  # tokens, (length,) uint8, or int32 for more than 256 characters
    positions: Tensor  # of each example's next character in the stream, (n,) int32 or int64
    block_size: int
    vocab_size: int

    def __len__(self) -> int:
        return len(self.positions)

    def x(self, index: Tensor) -> Tensor:
        """Contexts of the examples `index` (any shape), (*index.shape, block_size) int64, oldest token first."""
        windows = self.stream.unfold(0, self.block_size, 1)
        return windows[self.positions[index].long() - self.block_size].long()

    def y(self, index: Tensor) -> Tensor:
        """Next characters of the examples `index`, int64 of the same shape."""
        return self.stream[self.positions[index].long()].long()


def build_examples(words: Sequence[str], alphabet: Alphabet, block_size: int) -> Examples:
    """The examples of `words`, in order: "emma" with block size 3 gives five, from ... -> e to mma -> .

    Raises:
        ValueError: a word has a character that the alphabet lacks.
    """
    codes = torch.tensor([ord(character) for character in alphabet.itos])
    token_of = torch.full((int(codes.max()) + 1,), -1, dtype=torch.int32)
    token_of[codes] = torch.arange(len(codes), dtype=torch.int32)
    gap = alphabet.boundary * block_size
    dtype = torch.uint8 if alphabet.vocab_size <= 256 else torch.int32
    stream = [torch.zeros(block_size, dtype=dtype)]
    positions = []
    length = block_size
    for start in range(0, len(words), _WORDS_AT_A_TIME):
        text = gap.join(words[start : start + _WORDS_AT_A_TIME]) + gap
        code = torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32)
        unknown = code >= len(token_of)
        tokens = token_of[torch.where(unknown, 0, code)].masked_fill_(unknown, -1)
        if bool((tokens < 0).any()):
            character = chr(int(code[int((tokens < 0).nonzero()[0])]))
            raise ValueError(f"the character {character!r} is not in the alphabet {alphabet.itos!r}")
        is_letter = tokens != 0
        is_target = is_letter.clone()
        is_target[1:] |= is_letter[:-1]  # the first boundary after a word is its last next character
        stream.append(tokens.to(dtype))
        positions.append((is_target.nonzero().squeeze(1) + length).to(torch.int64 if length > _INT32 else torch.int32))
        length += len(tokens)
    return Examples(torch.cat(stream), torch.cat(positions), block_size, alphabet.vocab_size)


@dataclass(frozen=True)
class DistinctContexts:
    """Examples grouped by context: each distinct context once, with the counts of the characters that follow it.

    The counts are sparse: entries `offsets[i]` to `offsets[i + 1]` of `next_tokens` and `counts` belong to context i,
    with rising tokens.
    """

    x: Tensor  # (m, block_size) of the stream's dtype
    offsets: Tensor  # (m + 1,) int64
    next_tokens: Tensor  # (entries,) of the stream's dtype
    counts: Tensor  # (entries,) int32
    index: Tensor  # the context of each example, (n,) int32
    vocab_size: int

    def __len__(self) -> int:
        return len(self.x)

    def targets(self, contexts: Tensor) -> Tensor:
        """Empirical next-character distributions of the contexts (k,), as (k, vocab_size) float32 rows."""
        table = torch.zeros(len(contexts), self.vocab_size)
        row, pair = entries_of(self.offsets, contexts)
        table[row, self.next_tokens[pair].long()] = self.counts[pair].float()
        return table.div_(table.sum(1, keepdim=True))

    def merged(self) -> "DistinctContexts":
        """The same examples with empty contexts: they all share a single one."""
        counts = torch.bincount(self.next_tokens.long(), self.counts, self.vocab_size).int()
        next_tokens = torch.arange(self.vocab_size).to(self.x.dtype)
        offsets = torch.tensor([0, self.vocab_size])
        return DistinctContexts(
            self.x[:1, :0], offsets, next_tokens, counts, torch.zeros_like(self.index), self.vocab_size
        )

    @cached_property
    def sequences(self) -> SharedSequences:
        """The same contexts for modules that give logits at every position; made at first use."""
        return share_prefixes(self.x, self.vocab_size)

    def entry_of(self, contexts: Tensor, next_tokens: Tensor) -> Tensor:
        """The entries of pairs of a context and a next token that follows it, (k,) int64; both are (k,) int64."""
        row = torch.repeat_interleave(self.offsets.diff())
        return torch.searchsorted(row * self.vocab_size + self.next_tokens, contexts * self.vocab_size + next_tokens)

    def blocks(self, rows: int) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Blocks of at most `rows` contexts: x, where the block's entries stand, and the row in x of each entry."""
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            row = torch.repeat_interleave(self.offsets[start + 1 : stop + 1] - self.offsets[start:stop])
            entries = slice(int(self.offsets[start]), int(self.offsets[stop]))
            yield self.x[start:stop].long(), row, entries


def entries_of(offsets: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """The sparse entries of the groups (k,): for each entry the place of its group in `groups`, and its own index."""
    first = offsets[groups]
    lengths = offsets[groups + 1] - first
    row = torch.repeat_interleave(lengths)
    before = lengths.cumsum(0) - lengths
    return row, torch.arange(len(row)) + (first - before)[row]


def distinct_contexts(examples: Examples) -> DistinctContexts:
    """The distinct contexts of examples, in lexicographic order."""
    block_size, vocab_size = examples.block_size, examples.vocab_size
    positions = examples.positions.long()
    columns = (examples.stream[positions - back] for back in range(block_size, 0, -1))
    m, index = rank_rows(columns, len(positions), vocab_size)
    example_of = torch.empty(m, dtype=torch.int64)
    example_of[index] = torch.arange(len(index))  # any example of the context will do
    x = examples.stream.unfold(0, block_size, 1)[positions[example_of] - block_size]
    pair, counts = torch.unique(index * vocab_size + examples.stream[positions], return_counts=True)
    offsets = torch.searchsorted(pair, torch.arange(m + 1) * vocab_size)
    next_tokens = (pair % vocab_size).to(x.dtype)
    return DistinctContexts(x, offsets, next_tokens, counts.int(), index.int(), vocab_size)
