"""Fonts for pictures with letters of any script: Matplotlib's own font lacks many of them."""

import functools
import re
import unicodedata
from collections.abc import Iterator

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

_HEAVY = re.compile("bold|italic|oblique|black|heavy|thin|light", re.IGNORECASE)


@functools.cache
def find_font(text: str) -> FontProperties | None:
    """Matplotlib's own font or, where it lacks a letter of the text, an installed one that has them all, if any."""
    letters = {ord(letter) for letter in text}
    return next((FontProperties(fname=path) for path in _paths() if letters <= _letters(path)), None)


def is_visible(character: str) -> bool:
    """Whether a character can be seen by itself: no space, control character or combining accent."""
    return unicodedata.category(character)[0] not in "ZCM"


def _paths() -> Iterator[str]:
    """The files of fonts, plain ones first. Installed fonts are looked for only where the first one does not do."""
    yield font_manager.findfont(FontProperties())
    installed = font_manager.findSystemFonts()  # also those that were installed after Matplotlib made its list
    yield from sorted(installed, key=lambda path: (bool(_HEAVY.search(path)), path))


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points that a font can draw; none for one of pictures (coloured emoji), which cannot be scaled."""
    try:
        font = font_manager.get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # not a font that Matplotlib can read
        return frozenset()
