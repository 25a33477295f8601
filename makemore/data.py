"""Lists of words: reading them, naming them by their content, and dealing them into train and dev.

A word is any item of a list with one item per line: a name, a town, a drug. This module never hands out the words of
the test split; what holds them back has a door of its own.
"""

import hashlib
import random
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from makemore.limits import LimitError

SPLIT_RULES = ("lecture", "disjoint")
_FEWEST = 10  # words, so that none of the three parts is empty
GIVEN_NAMES = Path(__file__).with_name("given_names.txt")


class DataError(ValueError):
    """A list of words cannot be read or split; the message says where the problem is and what would help."""


def read_words(path: Path, boundary: str = ".") -> list[str]:
    """The words of a UTF-8 text file with one word per line, in the file's order.

    Windows line ends, a byte-order mark, blank lines and spaces around a word are dropped.

    Raises:
        DataError: the file is missing or is not UTF-8 text, has fewer than two words, or a word contains the boundary.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a text file with one item per line") from None
    if b"\0" in raw:
        raise DataError(f"{path} is not a text file (it has NUL bytes); give one item per line, in UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 (line {line}); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    words = [word for line in lines if (word := line.strip())]
    if len(words) < 2:
        raise DataError(f"{path} has {len(words)} items; it must have at least 2, one per line")
    if boundary in text:
        line = next(number for number, item in enumerate(lines, 1) if boundary in item)
        raise DataError(
            f"{path}, line {line}: {boundary!r} stands in an item but marks where items end; "
            "set data.boundary to a character that no item has"
        )
    return words


@dataclass(frozen=True)
class Alphabet:
    """The characters of a list of words; token 0 is the boundary, which stands before and after every word."""

    characters: str  # sorted, without the boundary
    boundary: str = "."

    @classmethod
    def of(cls, words: Iterable[str], boundary: str = ".") -> "Alphabet":
        """The alphabet of the whole list, as in the lectures, with letters that occur in test words alone.

        It does not reveal which word is in which split. docs/log.md has what such a letter costs.
        """
        return cls("".join(sorted(set("".join(words)))), boundary)

    @property
    def itos(self) -> str:
        """Token to character."""
        return self.boundary + self.characters

    @property
    def stoi(self) -> dict[str, int]:
        """Character to token."""
        return {character: token for token, character in enumerate(self.itos)}

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the characters and the boundary."""
        return 1 + len(self.characters)


@dataclass(frozen=True)
class Split:
    """Train and dev words of a list, and fingerprints that identify its three parts.

    A fingerprint is a SHA-256 of the list's content, the rule, its seed and the part's name: equal fingerprints
    mean equal words. The test part has a fingerprint too, but its words are not here.
    """

    train: list[str]
    dev: list[str]
    rule: str
    seed: int
    source_digest: str  # SHA-256 of the sorted words: the same list in another order is the same source
    content_digest: str  # SHA-256 of the words, in the list's order only if the rule depends on it

    def fingerprint(self, part: str) -> str:
        """SHA-256, in hex, that identifies the part "train", "dev" or "test"."""
        return _sha256([self.content_digest, self.rule, str(self.seed), part])


def split_words(words: Sequence[str], rule: str, seed: int, groups: Sequence[str] | None = None) -> Split:
    """Train and dev words of a list that is dealt into train, dev and test (80, 10 and 10 %).

    `lecture` is the lectures' rule: shuffle the lines with Python's generator and cut at 80 % and 90 %. A word that
    is in the list twice may land in two parts. `disjoint` deals distinct words, in the order of a hash of seed and
    word: equal words never land in two parts, and the order of the list does not matter.

    Args:
        groups: the group of each word; `disjoint` then deals groups, so that no group is in two parts.

    Raises:
        LimitError: an unknown rule.
        DataError: too few words, or groups, for three parts.
    """
    train, dev, _ = deal(words if groups is None else groups, rule, seed)
    named = words if groups is None else [f"{group}\t{word}" for group, word in zip(groups, words, strict=True)]
    source_digest = _sha256(sorted(named))
    return Split(
        train=[words[i] for i in train],
        dev=[words[i] for i in dev],
        rule=rule,
        seed=seed,
        source_digest=source_digest,
        content_digest=_sha256(named) if rule == "lecture" else source_digest,
    )


def deal(words: Sequence[str], rule: str, seed: int) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """The indices of the train, dev and test words in `words`."""
    if rule == "lecture":
        order = list(range(len(words)))
        random.Random(seed).shuffle(order)
        _check_size(len(words), "items")
        first, second = int(0.8 * len(words)), int(0.9 * len(words))
        return array("q", order[:first]), array("q", order[first:second]), array("q", order[second:])
    if rule == "disjoint":
        keys = torch.frombuffer(array("q", (_hash(word, seed) for word in words)), dtype=torch.int64)
        distinct = torch.unique(keys)
        _check_size(len(distinct), "distinct items")
        first_key, second_key = distinct[int(0.8 * len(distinct))], distinct[int(0.9 * len(distinct))]
        is_train, is_test = keys < first_key, keys >= second_key
        train, dev, test = (_where(part) for part in (is_train, ~(is_train | is_test), is_test))
        return train, dev, test
    raise LimitError("split", rule, " or ".join(SPLIT_RULES))


def _check_size(size: int, kind: str) -> None:
    if size < _FEWEST:
        raise DataError(f"the list has {size} {kind}; a split into train, dev and test needs at least {_FEWEST}")


def _hash(word: str, seed: int) -> int:
    """64 bits of a hash. Two words with the same hash land in the same part, which does no harm."""
    digest = hashlib.blake2b(word.encode(), digest_size=8, salt=seed.to_bytes(16, "big", signed=True))
    return int.from_bytes(digest.digest(), "big", signed=True)


def _where(mask: Tensor) -> Sequence[int]:
    indices = array("q")
    for piece in torch.split(
        mask.nonzero().squeeze(1), 1_000_000
    ):  # a list of all indices would take five times the memory
        indices.extend(piece.tolist())
    return indices


def _sha256(items: Iterable[str]) -> str:
    """SHA-256 of the items as lines; no item contains a line end, so different lists give different bytes."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.encode() + b"\n")
    return digest.hexdigest()
