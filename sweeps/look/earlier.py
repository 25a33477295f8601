"""Earlier looks at the same items, wherever they are recorded, and in whatever shape the list was then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.look.candidate import Candidate
from sweeps.look.ledger import STUDY_ID
from sweeps.look.record import Looks
from sweeps.task import held_out
from sweeps.task.sketch import Overlap, Sketch, read_sketch, sketch
from sweeps.tracking.looks import copied_looks
from sweeps.tracking.store import TrackingStore

_SAME_LIST = 0.5  # of either list stands in the other: the one is the other, edited or merged
_SEEN = 0.05  # of the test items were test items of an earlier look: another look at them needs a reason

Content = Mapping[str, Any]


@dataclass(frozen=True)
class EarlierLook:
    """A look of another study at items that are largely these."""

    content: Content  # of its claim, or of its copy in MLflow
    seen: Overlap | None  # how much of this test split it saw; None where that was not recorded
    place: str  # where it is recorded

    def in_words(self) -> str:
        """What a user is told of it."""
        look = self.content
        when = f" by {look['who']} on {look['when']}" if "who" in look else ""
        saw = ""
        if self.seen is not None:
            about = f" (+- {2 * self.seen.error:.0%})" if self.seen.error else ""
            saw = f", which saw {self.seen.of_first:.0%}{about} of this test split"
        return f"look {look['look']}{when} for study {look['study']}, recorded in {self.place}{saw}"


def sketches(candidate: Candidate, key: str) -> dict[str, Sketch]:
    """Sketches of a candidate's test items ("test") and of its whole list ("list")."""
    split = candidate.items.split
    return {
        "test": held_out.sketch_test_items(candidate.everything, split.rule, split.seed, candidate.groups, key),
        "list": sketch(candidate.everything, key),
    }


def earlier_looks(
    candidate: Candidate, own_id: str | None, looks: Looks, ledger: Looks | None, store: TrackingStore
) -> list[EarlierLook]:
    """The looks of other studies at the candidate's items, each once, in the order in which they were taken.

    Args:
        own_id: the study's id; None if it has never claimed a look.
    """
    found: dict[str, EarlierLook] = {}
    for table, place in ((looks, "study.storage"), (ledger, "the ledger")):
        if table is None:
            continue
        key = table.sketch_key()
        mine: dict[str, Sketch] = {}
        for claim in table.claims():
            content = claim.content
            if _is_own(content, candidate.study, own_id, table.by) or _identity(content) in found:
                continue
            recorded = content.get("sketches")
            if recorded and key and not mine:
                mine = sketches(candidate, key)
            seen, same = _compare(mine, recorded) if recorded and mine else (None, False)
            same = same or content["source_digest"] == candidate.items.split.source_digest
            if same or (seen is not None and seen.of_first >= _SEEN):
                found[_identity(content)] = EarlierLook(content, seen, place)
    for copy in copied_looks(store):
        own = _is_own(copy, candidate.study, own_id, STUDY_ID if STUDY_ID in copy else "study")
        if not own and copy["source_digest"] == candidate.items.split.source_digest and _identity(copy) not in found:
            found[_identity(copy)] = EarlierLook(copy, None, "tracking.uri")
    return sorted(found.values(), key=lambda look: str(look.content.get("when", "")))


def _is_own(content: Content, study: str, own_id: str | None, by: str) -> bool:
    return bool(content.get("study") == study) if by == "study" else own_id is not None and content.get(by) == own_id


def _identity(content: Content) -> str:
    """What tells a look from others in all places that record it; older looks have no id."""
    return str(content.get(STUDY_ID) or (content["study"], content["source_digest"], content["run_id"]))


def _compare(mine: Mapping[str, Sketch], recorded: Mapping[str, Any]) -> tuple[Overlap, bool]:
    """How much of the test items was seen, and whether the lists are the same but for editing."""
    lists = mine["list"].overlap(read_sketch(recorded["list"]))
    return mine["test"].overlap(read_sketch(recorded["test"])), max(lists.of_first, lists.of_second) >= _SAME_LIST


def next_number(earlier: Sequence[EarlierLook]) -> int:
    """Which look at these items the next one is."""
    return 1 + max([len(earlier), *(int(look.content["look"]) for look in earlier)])
