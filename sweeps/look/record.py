"""The looks at test splits: a table in the study's database, in which each row contains the hash of the row before."""

import getpass
import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, create_engine, insert, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from sweeps.databases import adopt_engine
from sweeps.trials.seal import CLAIM, create_looks
from sweeps.trials.seal import LOOKS as _LOOKS

ATTEMPT, RESULT = "attempt", "result"
_FIRST = "0" * 64  # the hash before the first row
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

    def __init__(self, url: str) -> None:
        """Open the table; what is written to it survives a power failure."""
        self._engine = adopt_engine(create_engine(url, poolclass=NullPool), durable=True)

    def records(self, study: str | None = None) -> list[Record]:
        """The records of one study, or of all studies where `study` is None, in order."""
        records = [
            Record(row.number, row.event.partition(" ")[0], json.loads(row.record), row.hash) for row in self._rows()
        ]
        return [record for record in records if study in (None, record.content.get("study"))]

    def claims_of(self, source_digest: str) -> list[Record]:
        """The claims on any split of a source, in order."""
        claims = (record for record in self.records() if record.kind == CLAIM)
        return [record for record in claims if record.content["source_digest"] == source_digest]

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

    def broken(self) -> list[str]:
        """A sentence for each row that is missing or does not fit in the chain of hashes."""
        rows = self._rows()
        missing = sorted(set(range(1, len(rows) + 1)) - {row.number for row in rows})
        problems = [f"row {number} is missing" for number in missing]
        before = _FIRST
        for row in rows:
            if _hash(before, row.event, row.record) != row.hash:
                problems.append(f"row {row.number} ({row.event}) was altered, or the row before it")
            before = row.hash
        return problems

    def _rows(self) -> Sequence[Row[Any]]:
        """All rows in order; a database from before there were looks has no table of them."""
        if not inspect(self._engine).has_table(_LOOKS.name):
            return []
        with self._engine.connect() as connection:
            return connection.execute(select(_LOOKS).order_by(_LOOKS.c.number)).all()

    def _append(self, kind: str, suffix: str, content: dict[str, Any], look: str | None = None) -> Record:
        create_looks(self._engine)
        name = f"{kind} {content['study']}{suffix}"
        record = json.dumps({**content, **_signature()}, sort_keys=True)
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


def _signature() -> dict[str, str]:
    """The user and host that write a record, and the time in UTC."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return {
        "who": f"{user}@{socket.gethostname()}",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _hash(before: str, name: str, record: str) -> str:
    return hashlib.sha256(f"{before}\n{name}\n{record}".encode()).hexdigest()
