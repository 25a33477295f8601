"""Tables that fit the terminal, with as many columns as there is room for."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from wcwidth import wcswidth

from sweeps.config.terminal import terminal_width, wrap

_GAP = "  "  # between two columns
_ID_DIGITS = 8  # of an id that is cut; the beginning of an id is enough for `runs=` and `baseline=`
_MOST_LETTERS = 24  # of any other cell that is cut


def fit_table(cells: pd.DataFrame, by_importance: Sequence[str], short: Mapping[str, str], cure: str) -> str:
    """A table in lines that fit the terminal.

    Where the table is too wide, its names, ids and texts are shortened, then the least important columns are left out;
    a last line says which.

    Args:
        cells: all of them text.
        by_importance: the columns, the most important first.
        short: shorter names for columns, by name.
        cure: how to see all columns.
    """
    width = terminal_width()
    full = {name: _lines_up(name, cells[name]) for name in map(str, cells)}
    if _width_of(full.values()) <= width:
        return _join(full.values())
    cut = {name: _lines_up(short.get(name, name), [_cut(name, cell) for cell in cells[name]]) for name in full}
    kept: list[str] = []
    for name in by_importance:
        if not kept or _width_of([cut[other] for other in [*kept, name]]) <= width:
            kept.append(name)
    # One end of an interval says nothing.
    kept = [name for name in kept if not name.endswith("_low") or f"{name.removesuffix('low')}high" in kept]
    left_out = [name for name in full if name not in kept]
    text = _join(column for name, column in cut.items() if name in kept)
    if not left_out:
        return text
    return f"{text}\n" + wrap(f"(not shown at this width: {', '.join(left_out)}; {cure})")


def _lines_up(name: str, cells: "pd.Series[str] | Sequence[str]") -> list[str]:
    """The lines of a column, its name first, all equally wide; texts end at its right edge."""
    texts = [" ".join(text.split()) for text in (name, *cells)]
    widths = [_columns(text) for text in texts]
    return [" " * (max(widths) - width) + text for text, width in zip(texts, widths, strict=True)]


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: an ideograph takes two, a combining accent none."""
    return len(text) if text.isascii() else max(wcswidth(text), 0)


def _cut(name: str, cell: str) -> str:
    if name == "study":  # to be given in the next command
        return cell
    if name.endswith(("_id", "_hash", "_digest")):
        return cell[:_ID_DIGITS]
    return cell if len(cell) <= _MOST_LETTERS else f"{cell[: _MOST_LETTERS - 1]}…"


def _width_of(columns: Iterable[Sequence[str]]) -> int:
    first = [_columns(lines[0]) for lines in columns]
    return sum(first) + len(_GAP) * (len(first) - 1)


def _join(columns: Iterable[Sequence[str]]) -> str:
    return "\n".join(_GAP.join(line).rstrip() for line in zip(*columns, strict=True))
