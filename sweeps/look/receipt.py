"""Receipts: the hashes of all records in a file that is kept elsewhere, or given to a time-stamping service.

Whoever can write to the databases can compute all hashes anew. A receipt outside their reach shows that they did.
"""

from collections.abc import Sequence
from pathlib import Path

from sweeps.config.messages import one_line
from sweeps.errors import RequestError
from sweeps.look.record import Record

_TITLE = "makemore looks: number, hash and event of each record; makemore looks receipt=FILE compares"


def read_receipt(file: str) -> list[str] | None:
    """The lines of a receipt; None if there is no such file yet.

    Raises:
        RequestError: the file cannot be read, or is no receipt.
    """
    try:
        title, *lines = Path(file).read_text(encoding="utf-8").splitlines() or [""]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RequestError(f"receipt is {file}; it cannot be read ({one_line(error)}): name another file") from None
    if title != _TITLE:
        raise RequestError(f"receipt is {file}; it is another file, not a receipt of makemore looks: name a new one")
    return [line for line in lines if line.strip()]


def receipt_problems(file: str, lines: Sequence[str], records: Sequence[Record]) -> list[str]:
    """A sentence for each line of a receipt that the records do not have."""
    known = set(_lines(records))
    return [f"the record has no row {line.split()[0]} of the receipt {file}" for line in lines if line not in known]


def write_receipt(file: str, records: Sequence[Record]) -> None:
    """Write the receipt of all records; it tells no loss.

    Raises:
        RequestError: the file cannot be written.
    """
    try:
        Path(file).write_text("\n".join([_TITLE, *_lines(records)]) + "\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(f"receipt is {file}; it cannot be written ({one_line(error)}): name another file") from None


def _lines(records: Sequence[Record]) -> list[str]:
    return [f"{record.number} {record.hash} {record.kind} {record.content.get('study')}" for record in records]
