"""A split as the trainer uses it: examples of train and distinct contexts of dev, made once and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from makemore.contexts import DistinctContexts, Examples, build_examples, distinct_contexts
from makemore.data import Alphabet, Split
from makemore.kneser_ney import KneserNey
from makemore.sequences import Sequences, build_sequences

_TABLE_NUMBERS = 50_000_000  # 200 MB of target distributions
_TABLE_BLOCK = 65_536  # contexts whose distributions are made at a time


@dataclass(frozen=True, eq=False)
class Corpus:
    """Examples of train, distinct contexts of dev, and what is derived from them when it is first asked for."""

    alphabet: Alphabet
    train: Examples
    dev_contexts: DistinctContexts

    @cached_property
    def train_contexts(self) -> DistinctContexts:
        """The distinct contexts of train; training on sampled characters does without them."""
        return distinct_contexts(self.train)

    @cached_property
    def train_sequences(self) -> Sequences:
        """The training sequences of train, for modules that give logits at every position."""
        return build_sequences(self.train)

    @cached_property
    def train_sample(self) -> DistinctContexts:
        """As many examples of train as dev has, evenly spaced: they estimate the loss on train."""
        count = min(len(self.train), len(self.dev_contexts.index))
        chosen = torch.arange(count) * len(self.train) // count
        return distinct_contexts(replace(self.train, positions=self.train.positions[chosen]))

    @cached_property
    def targets(self) -> Callable[[str, float], Callable[[Tensor], Tensor]]:
        """targets(kind, discount): a function from contexts of train, by index, to next-character distributions.

        It maps (k,) to (k, vocab_size) float32. A table of all distributions is kept where it takes little memory;
        otherwise each call computes the rows that it is asked for.
        """
        return lru_cache(maxsize=2)(self._make_targets)

    def _make_targets(self, kind: str, discount: float) -> Callable[[Tensor], Tensor]:
        contexts = self.train_contexts
        make = KneserNey(contexts, discount).targets if kind == "kneser_ney" else contexts.targets
        if len(contexts) * contexts.vocab_size > _TABLE_NUMBERS:
            return make
        table = torch.cat([make(block) for block in torch.split(torch.arange(len(contexts)), _TABLE_BLOCK)])
        return partial(table.index_select, 0)


def build_corpus(split: Split, alphabet: Alphabet, block_size: int) -> Corpus:
    """The corpus of a split's train and dev words at one block size."""
    return corpus_of(split.train, split.dev, alphabet, block_size)


def corpus_of(train: Sequence[str], dev: Sequence[str], alphabet: Alphabet, block_size: int) -> Corpus:
    """The corpus of train and dev words at one block size."""
    examples = build_examples(train, alphabet, block_size)
    return Corpus(alphabet, examples, distinct_contexts(build_examples(dev, alphabet, block_size)))
