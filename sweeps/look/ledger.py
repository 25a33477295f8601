"""The ledger: looks are also remembered in a place that belongs to a person or a team, and not to a folder.

It is a table of looks like that of a study's database. A study has an id of its own in it, because many folders have a
study of the same name. It knows nothing of what another account or another machine does, unless both use the same one.
"""

import os
import uuid

from omegaconf import DictConfig
from platformdirs import user_state_path
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sweeps.config.messages import one_line
from sweeps.databases import has_table, hide_password, locked, resolve_url, sqlite_file, sqlite_url
from sweeps.errors import RequestError
from sweeps.look.record import Looks
from sweeps.trials.trials import Trials

PERSON = "person"
STUDY_ID = "study_id"


def find_ledger(cfg: DictConfig) -> Looks | None:
    """The ledger that `looks.ledger` names; None if it is null, or has no looks yet.

    Raises:
        RequestError: not a database, or one that cannot be read.
    """
    url = _url(cfg, writes=False)
    return Looks(url, by=STUDY_ID) if url is not None and has_table(url, "looks") else None


def make_ledger(cfg: DictConfig) -> Looks | None:
    """The ledger that `looks.ledger` names, which is made if there is none; None if it is null.

    Raises:
        RequestError: it cannot be written.
    """
    url = _url(cfg, writes=True)
    if url is None:
        return None
    ledger = Looks(url, by=STUDY_ID)
    try:
        with locked(url, "schema"):
            ledger.make()
    except (SQLAlchemyError, OSError) as error:
        raise RequestError(
            f"looks.ledger is {hide_password(url)}; it cannot be written ({one_line(error)}), so the look was not "
            "taken: name another database, or looks.ledger=null"
        ) from None
    return ledger


def study_id(trials: Trials) -> str:
    """The id of a study, wherever its database is moved or copied; made when it is first asked for."""
    known = find_study_id(trials)
    if known is None:
        known = uuid.uuid4().hex
        trials.study.set_user_attr(STUDY_ID, known)
    return known


def find_study_id(trials: Trials) -> str | None:
    """The id of a study; None if it has never claimed a look."""
    return trials.study.user_attrs.get(STUDY_ID)


def _url(cfg: DictConfig, writes: bool) -> str | None:
    given = cfg.looks.ledger
    if given is None:
        return None
    if given == PERSON:
        given = sqlite_url(user_state_path("makemore") / "looks.db")
    url = resolve_url("looks.ledger", str(given), table="looks", writes=writes)
    if _place(url) == _place(str(cfg.study.storage)):
        raise RequestError(
            f"looks.ledger is {hide_password(str(given))}, and so is study.storage; a ledger must be another database"
        )
    return url


def _place(url: str) -> str | URL | None:
    """What two URLs of one database have in common; None for a text that is no URL."""
    try:
        file = sqlite_file(url)
    except ArgumentError:
        return None
    return os.path.realpath(file.expanduser()) if file else make_url(url)
