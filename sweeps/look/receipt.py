"""Receipts: the hashes of all records in a file that is kept elsewhere, or given to a time-stamping service.

Whoever can write to the databases can compute all hashes anew. A receipt outside their reach shows that they did.
"""

from collections.abc import Sequence
from pathlib import Path

from sweeps.errors import RequestError
from sweeps.look.record import Record

_TITLE = "makemore looks: number, hash and event of each record; makemore looks receipt=FILE compares"


def check_receipt(path: Path, records: Sequence[Record]) -> list[str]:
    """A sentence for each line of a receipt that the records do not have.

    Raises:
        RequestError: the file cannot be read, or is no receipt.
    """
    try:
        title, *lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RequestError(f"receipt is {path}; it cannot be read ({error}): name another file") from None
    if title != _TITLE:
        raise RequestError(f"receipt is {path}; it is another file, not a receipt of makemore looks: name a new one")
    known = set(_lines(records))
    return [f"{path}: the record has no row {line.split()[0]} of this receipt" for line in lines if line not in known]


def write_receipt(path: Path, records: Sequence[Record]) -> None:
    """Write the receipt of all records; it tells no loss."""
    path.write_text("\n".join([_TITLE, *_lines(records)]) + "\n", encoding="utf-8")


def _lines(records: Sequence[Record]) -> list[str]:
    return [f"{record.number} {record.hash} {record.kind} {record.content['study']}" for record in records]
