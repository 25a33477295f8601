"""The looks at test splits: a table in the study's database, in which each row contains the hash of the row before."""

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, create_engine, delete, insert, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from sweeps.databases import adopt_engine
from sweeps.trials.seal import CLAIM, SKETCH_KEY, create_looks
from sweeps.trials.seal import LOOKS as _LOOKS
from sweeps.trials.who import user_at_host

ATTEMPT, RESULT, SIGNATURE = "attempt", "result", "signature"
_FIRST = "0" * 64  # the hash before the first row
_KEYS = {  # without which a row is no record of its kind
    CLAIM: {"study", "look", "source", "source_digest", "run_id", "weights_digest", "who", "when"},
    RESULT: {"study", "claim", "test_loss"},
    SIGNATURE: {"study", "of", "hash", "key", "signature"},
}
_TRIES = 20  # how often a row's number may be taken by another process


@dataclass(frozen=True)
class Record:
    """A row of the table: what happened, and the hash over it and all rows before it."""

    number: int
    kind: str
    content: dict[str, Any]
    hash: str


class Claimed(Exception):
    """The study has a claim already, or another study has this look at the source."""


class Looks:
    """The table of looks in a database."""

    def __init__(self, url: str, by: str = "study") -> None:
        """Open the table; what is written to it survives a power failure.

        Args:
            by: the key of a record that names its study: "study", or "study_id" where several databases meet.
        """
        self.url, self.by = url, by
        # An error must not print what was to be written: it may be a figure of the test split.
        self._engine = adopt_engine(create_engine(url, poolclass=NullPool, hide_parameters=True), durable=True)

    def make(self) -> None:
        """Make the tables if the database has none, and raise SQLAlchemyError if nothing can be written."""
        create_looks(self._engine)
        with self._engine.begin() as connection:
            connection.execute(delete(_LOOKS).where(_LOOKS.c.number < 0))  # there are none, but it needs the right

    def sketch_key(self) -> str | None:
        """The key of the sketches in this table's claims; None while there is none."""
        if not inspect(self._engine).has_table(SKETCH_KEY.name):
            return None
        with self._engine.connect() as connection:
            return connection.execute(select(SKETCH_KEY.c.key)).scalar()

    def make_sketch_key(self) -> str:
        """The key of the sketches; it is made if there is none."""
        create_looks(self._engine)
        if self.sketch_key() is None:
            with suppress(IntegrityError), self._engine.begin() as connection:  # another process may just make it
                connection.execute(insert(SKETCH_KEY).values(number=1, key=secrets.token_hex(16)))
        return str(self.sketch_key())

    def records(self, study: str | None = None) -> list[Record]:
        """The records of one study, or of all studies where `study` is None, in order."""
        records = [record for record in map(_read, self._rows()) if record is not None]
        return [record for record in records if study in (None, record.content.get(self.by))]

    def claims(self) -> list[Record]:
        """The claims of all studies, in order."""
        return [record for record in self.records() if record.kind == CLAIM]

    def find(self, study: str, kind: str) -> Record | None:
        """A study's record of a kind of which it has one at most: its claim, or its result."""
        return next((record for record in self.records(study) if record.kind == kind), None)

    def claim(self, content: dict[str, Any]) -> Record:
        """The record of a new claim; it is durable when this returns.

        Raises:
            Claimed: the study has a claim already, or another study has this look at the source.
        """
        return self._append(CLAIM, "", content, f"{content['source_digest']} {content['look']}")

    def attempt(self, content: dict[str, Any]) -> Record:
        """The record of another attempt to complete a claim whose evaluation died."""
        return self._append(ATTEMPT, f" {content['attempt']}", content)

    def result(self, content: dict[str, Any]) -> Record:
        """The record of a look's result."""
        return self._append(RESULT, "", content)

    def signature(self, content: dict[str, Any]) -> Record:
        """The record of a signature of a claim or a result; it names the kind as `of`."""
        return self._append(SIGNATURE, f" {content['of']}", content)

    def copy(self, record: Record, more: dict[str, Any]) -> Record:
        """A copy of another table's claim or result, with more content."""
        content = {**record.content, **more}
        look = f"{content['source_digest']} {content['look']}" if record.kind == CLAIM else None
        return self._append(record.kind, "", content, look)

    def broken(self) -> list[str]:
        """A sentence for each row that is missing or does not fit in the chain of hashes."""
        rows = self._rows()
        missing = sorted(set(range(1, len(rows) + 1)) - {row.number for row in rows})
        problems = [f"row {number} is missing" for number in missing] + self.unreadable()
        before = _FIRST
        for row in rows:
            if _hash(before, row.event, row.record) != row.hash:
                problems.append(f"row {row.number} ({row.event}) was altered, or the row before it")
            before = row.hash
        return problems

    def unreadable(self) -> list[str]:
        """A sentence for each row that is no record any more; `records` leaves such rows out."""
        return [f"row {row.number} ({row.event}) cannot be read" for row in self._rows() if _read(row) is None]

    def _rows(self) -> Sequence[Row[Any]]:
        """All rows in order; a database from before there were looks has no table of them."""
        if not inspect(self._engine).has_table(_LOOKS.name):
            return []
        with self._engine.connect() as connection:
            return connection.execute(select(_LOOKS).order_by(_LOOKS.c.number)).all()

    def _append(self, kind: str, suffix: str, content: dict[str, Any], look: str | None = None) -> Record:
        create_looks(self._engine)
        name = f"{kind} {content[self.by]}{suffix}"
        record = json.dumps({**who_and_when(), **content}, sort_keys=True)
        for tries_left in reversed(range(_TRIES)):
            try:
                number, own_hash = self._insert(name, record, look)
                break
            except IntegrityError:
                if self._has(name, look):
                    raise Claimed(name) from None
                if not tries_left:
                    raise
                # Another process wrote a row with this number: take the next one.
        return Record(number, kind, json.loads(record), own_hash)

    def _insert(self, name: str, record: str, look: str | None) -> tuple[int, str]:
        """The number and hash of a new last row."""
        with self._engine.begin() as connection:
            rows = select(_LOOKS.c.number, _LOOKS.c.hash).order_by(_LOOKS.c.number.desc()).limit(1)
            last = connection.execute(rows).first()
            number, before = (last.number + 1, last.hash) if last else (1, _FIRST)
            own_hash = _hash(before, name, record)
            row = {"number": number, "event": name, "look": look, "record": record, "hash": own_hash}
            connection.execute(insert(_LOOKS).values(**row))
            return number, own_hash

    def _has(self, name: str, look: str | None) -> bool:
        known = (_LOOKS.c.event == name) | (_LOOKS.c.look == look) if look else _LOOKS.c.event == name
        with self._engine.connect() as connection:
            return connection.execute(select(_LOOKS.c.number).where(known)).first() is not None


def _read(row: Row[Any]) -> Record | None:
    """The record of a row; None if it was altered so that it is none."""
    kind = row.event.partition(" ")[0]
    try:
        content = json.loads(row.record)
    except ValueError:
        return None
    is_record = isinstance(content, dict) and content.keys() >= _KEYS.get(kind, {"study"})
    return Record(row.number, kind, content, row.hash) if is_record else None


def who_and_when() -> dict[str, str]:
    """The user and host that write a record, and the time in UTC."""
    return {"who": user_at_host(), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _hash(before: str, name: str, record: str) -> str:
    return hashlib.sha256(f"{before}\n{name}\n{record}".encode()).hexdigest()
