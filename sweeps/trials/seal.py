"""Sealed studies: one whose winner's look at the test split has been claimed takes no more trials.

Here are the table of looks and what trials read of it; what is written to it, and checked, is in sweeps/look/.
"""

import json
from contextlib import nullcontext
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, Text, select

CLAIM = "claim"

_METADATA = MetaData()
LOOKS = Table(
    "looks",
    _METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("event", String(300), nullable=False, unique=True),  # a study has one claim and one result
    Column("look", String(100), unique=True),  # of a claim: its source, and which look at it this is
    Column("record", Text, nullable=False),  # JSON
    Column("hash", String(64), nullable=False),  # SHA-256 of the hash before and the record
)
SKETCH_KEY = Table(
    "looks_sketch_key",
    _METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1: there is one
    Column("key", String(64), nullable=False),  # of the hashes in the sketches of this database's claims
)


@dataclass(frozen=True)
class Seal:
    """Who claimed a study's look at the test split, and when."""

    who: str
    when: str


def create_looks(engine: Engine) -> None:
    """Make the table of looks, if the database has none."""
    _METADATA.create_all(engine)


def read_seal(database: Engine | Connection, study: str) -> Seal | None:
    """The seal of a study; None while it may take trials."""
    with database.connect() if isinstance(database, Engine) else nullcontext(database) as connection:
        claim = connection.execute(select(LOOKS.c.record).where(LOOKS.c.event == f"{CLAIM} {study}")).scalar()
    if claim is None:
        return None
    content = json.loads(claim)
    return Seal(content["who"], content["when"])
