"""What is odd about a list of words: one line each, with its cure. Training goes on."""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

_LOOKED_AT = 10_000  # words: their shape shows soon
_FEWEST_DEV = 100  # words: with fewer, dev losses of different settings differ by chance
_HEADERS = {"name", "names", "word", "words", "item", "items", "id", "title", "city", "town", "first_name", "last_name"}
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def list_remarks(name: str, words: Sequence[str], characters: str, dev: int) -> Iterator[str]:
    """What is odd about the words of a user's file, and what would help.

    Args:
        name: of the file.
        characters: all that the words have.
        dev: the number of dev words.
    """
    some = list(itertools.islice(words, _LOOKED_AT))
    yield from filter(None, [_shape(name, some), _header(name, some)])
    if not characters.isascii() and (mixed := _mixed_forms(words)):
        composed, decomposed = mixed
        yield (
            f"{name} writes accents in two ways ({composed} words in NFC, {decomposed} in NFD), so one letter is "
            "learned as two; write all words in one form: uconv -x nfc"
        )
    if dev < _FEWEST_DEV:
        yield (
            f"{name} leaves {dev} dev words, fewer than {_FEWEST_DEV}: small differences of dev loss are chance; give "
            "a longer list, or compare with study.confirm.seeds=10"
        )


def _shape(name: str, words: Sequence[str]) -> str:
    """What most lines have that words hardly have."""
    for separator, noun in _SEPARATORS.items():
        if (count := sum(separator in word for word in words)) > len(words) / 2:
            return (
                f"{name} looks like a table: {count} of {len(words)} lines have {noun}, and a whole line is learned as "
                "one word; keep the column of words, one word a line"
            )
    if (count := sum(word[0] == word[-1] and word[0] in "\"'" for word in words if len(word) > 1)) > len(words) / 2:
        return f"{name} has quotes around {count} of {len(words)} words, and they are learned, too; take them away"
    if (count := sum(bool(re.search(r"\d", word)) for word in words)) > len(words) / 2:
        return (
            f"{name} has digits in {count} of {len(words)} lines, and they are learned, too; take away what is no word"
        )
    return ""


def _header(name: str, words: Sequence[str]) -> str:
    """What tells that the first line is a header, where the lines are no table."""
    first = words[0].strip("\"'#").lower()
    if first in _HEADERS and words.count(words[0]) == 1:
        return f"{name} begins with the line {words[0]}, which looks like a header and is learned as a word; delete it"
    return ""


def _mixed_forms(words: Sequence[str]) -> tuple[int, int] | None:
    """How many words have composed characters (NFC), and how many decomposed (NFD), if there are both."""
    composed = sum(not unicodedata.is_normalized("NFD", word) for word in words)
    decomposed = sum(not unicodedata.is_normalized("NFC", word) for word in words)
    return (composed, decomposed) if composed and decomposed else None
