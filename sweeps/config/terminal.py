"""How wide the terminal is, and sentences that fit it."""

import shutil
import textwrap

_NARROWEST = 40


def terminal_width() -> int:
    """The columns of the terminal: COLUMNS where it is set, 80 where there is no terminal."""
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def wrap(text: str, indent: str = "", first: str | None = None) -> str:
    """A sentence in lines that fit the terminal, broken at spaces only.

    Args:
        indent: the beginning of each line.
        first: the beginning of the first line, where it is another.
    """
    return textwrap.fill(
        text,
        terminal_width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
