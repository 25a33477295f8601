"""A sketch of a list: a few hundred keyed hashes, from which the overlap with another list can be estimated.

It keeps the smallest hashes of the list's distinct items (a bottom-k sketch: Cohen and Kaplan 2007). Whoever can read a
sketch and its key can test whether a given text is among those few hundred items, and learns nothing of the others.
"""

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_KEPT = 512  # hashes: an overlap of 2 % is then estimated to within a percentage point
_BYTES = 8  # of each hash


@dataclass(frozen=True)
class Overlap:
    """Estimated shares of two lists that also stand in the other, in [0, 1], and the standard error of the first."""

    of_first: float
    of_second: float
    error: float  # 0 where both sketches hold their whole lists


@dataclass(frozen=True)
class Sketch:
    """The smallest hashes of a list, and how many distinct items it has."""

    count: int
    hashes: frozenset[str]

    def overlap(self, other: "Sketch") -> Overlap:
        """How much of either list stands in the other; both sketches must have the same key."""
        smallest = sorted(self.hashes | other.hashes)
        if max(self.count, other.count) > _KEPT:
            smallest = smallest[:_KEPT]  # a random sample of both lists together
        both = sum(value in self.hashes and value in other.hashes for value in smallest)
        similarity = both / len(smallest) if smallest else 0.0  # of Jaccard
        shared = similarity * (self.count + other.count) / (1 + similarity)
        spread = math.sqrt(similarity * (1 - similarity) / len(smallest)) if smallest else 0.0
        exact = max(self.count, other.count) <= _KEPT
        slope = (self.count + other.count) / ((1 + similarity) ** 2 * max(1, self.count))
        return Overlap(
            min(1.0, shared / max(1, self.count)),
            min(1.0, shared / max(1, other.count)),
            0.0 if exact else spread * slope,
        )

    def as_json(self) -> dict[str, Any]:
        """The sketch as it is recorded."""
        return {"count": self.count, "hashes": sorted(self.hashes)}


def read_sketch(content: Mapping[str, Any]) -> Sketch:
    """A sketch as `as_json` wrote it."""
    return Sketch(int(content["count"]), frozenset(content["hashes"]))


def sketch(items: Iterable[str], key: str) -> Sketch:
    """The sketch of a list, whatever the order, case, spaces around and normal form of its items, and repeats."""
    hashes = {hashlib.blake2b(plain(item).encode(), key=key.encode(), digest_size=_BYTES).hexdigest() for item in items}
    return Sketch(len(hashes), frozenset(sorted(hashes)[:_KEPT]))


def plain(item: str) -> str:
    """An item without what does not make it another item: case, spaces around, the form of its characters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", item).casefold()).strip()
