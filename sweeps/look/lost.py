"""Looks that the study's database has lost: a copy says that there was one, and the database has no claim of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from optuna.storages import RDBStorage

from sweeps.look.ledger import STUDY_ID
from sweeps.look.record import RESULT, Looks
from sweeps.tracking.looks import copied_looks
from sweeps.tracking.store import TrackingStore
from sweeps.trials.seal import CLAIM


@dataclass(frozen=True)
class LostLook:
    """A look that was recorded in the study's database once."""

    study: str
    source_digest: str
    place: str  # that still knows it


def lost_looks(looks: Looks, ledger: Looks | None, store: TrackingStore, storage: RDBStorage) -> list[LostLook]:
    """The looks for studies of this database that only MLflow or the ledger still know.

    A look for a study that this database does not have belongs to another database, and is not lost.
    """
    ids: Mapping[str, str | None] = {
        study.study_name: study.user_attrs.get(STUDY_ID) for study in storage.get_all_studies()
    }
    records = looks.records()
    claimed = {record.content["study"] for record in records if record.kind == CLAIM}
    lost = {}
    for copy in copied_looks(store):
        study = copy["study"]
        if study in ids and study not in claimed and copy.get(STUDY_ID, ids[study]) == ids[study]:
            lost[study] = LostLook(study, copy["source_digest"], "tracking.uri")
    names = {own_id: study for study, own_id in ids.items() if own_id is not None}
    remembered = ledger.records() if ledger else []
    # A claim alone may be that of a process that died before it claimed the look in the study's database, too.
    completed = {record.content[STUDY_ID] for record in remembered if record.kind == RESULT}
    for record in remembered:
        name = names.get(record.content[STUDY_ID])
        if record.kind == CLAIM and name and name not in claimed and record.content[STUDY_ID] in completed:
            lost.setdefault(name, LostLook(name, record.content["source_digest"], "looks.ledger"))
    return list(lost.values())
