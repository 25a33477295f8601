"""The claim of a look, written before any test item is read, and the reasons to refuse it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from sweeps.config.terminal import wrap
from sweeps.errors import RequestError
from sweeps.look.candidate import Candidate
from sweeps.look.declaration import Declaration, in_words
from sweeps.look.earlier import EarlierLook, earlier_looks, next_number, sketches
from sweeps.look.ledger import STUDY_ID, find_study_id, study_id
from sweeps.look.lost import lost_looks
from sweeps.look.record import ATTEMPT, Claimed, Looks, Record, who_and_when
from sweeps.look.signing import Signer
from sweeps.tracking.store import TrackingStore
from sweeps.tracking.versions import version_tags
from sweeps.trials.seal import CLAIM
from sweeps.trials.trials import Trials


@dataclass(frozen=True)
class LookConfig:
    """Consent to the look without a question (`confirm`), the reason for a look after the first, and whether a study
    will do whose sweep was stopped (`unfinished`)."""

    confirm: bool
    reason: str | None
    unfinished: bool


@dataclass(frozen=True)
class Places:
    """Where looks are recorded, and who signs them."""

    looks: Looks  # the table in the study's database
    ledger: Looks | None  # None: nothing is remembered beside it
    store: TrackingStore
    signer: Signer | None = None  # None: nothing is signed


def check_earlier(config: LookConfig, places: Places, candidate: Candidate, trials: Trials) -> list[EarlierLook]:
    """The earlier looks at the candidate's items, if they leave room for another.

    Raises:
        RequestError: another study has looked at them, and `reason` is empty; or the database has lost a look at them.
    """
    item, mine = candidate.run.task.item, candidate.items.split.source_digest
    lost = [
        look
        for look in lost_looks(places.looks, places.ledger, places.store, trials.storage)
        if look.source_digest == mine
    ]
    if lost:
        raise RequestError(
            f"study.name is {candidate.study}; {lost[0].place} has a look at its {item}s for study {lost[0].study} "
            "that study.storage lacks: give the database in which that look was recorded (see makemore looks)"
        )
    earlier = earlier_looks(candidate, find_study_id(trials), places.looks, places.ledger, places.store)
    if earlier and not (config.reason or "").strip():
        listed = "; ".join(look.in_words() for look in earlier)
        raise RequestError(
            f"study.name is {candidate.study}; its {item}s, or many of them, have been looked at: {listed}; another "
            'look needs final_test.reason="..." and is counted'
        )
    return earlier


def announce(candidate: Candidate, earlier: Sequence[EarlierLook], declared: Declaration) -> str:
    """What the look will spend, how its winner was found, and what it will be able to show."""
    facts, task = candidate.binding, candidate.run.task
    seeds = ", ".join(str(run["seed"]) for run in candidate.confirming_runs)
    confirmed = f"confirmed with seeds {seeds}" if seeds else "not confirmed with fresh seeds"
    lines = [
        f"The test split of {facts['source']} ({facts['split']}, seed {facts['split_seed']}, "
        f"{facts['split_digest'][:12]}) will be looked at, once:",
        f"look {next_number(earlier)} at these {task.item}s, for study {facts['study']}, whose winner is trial "
        f"{facts['trial']} with dev loss {facts['dev_loss']:.4f} (its weights give the same loss again; {confirmed}).",
        *(f"Earlier: {look.in_words()}." for look in earlier),
        *in_words(declared.as_json(), task.unit),
        f"Compared with: {', '.join(declared.baselines) or 'nothing'}.",
        "The study takes no more trials afterwards.",
    ]
    return "\n".join(map(wrap, lines))


def ask() -> None:
    """Ask for a yes at the terminal.

    Raises:
        RequestError: the answer is not yes.
    """
    try:
        answer = input("Look? Type yes: ")
    except EOFError:  # Ctrl+D
        answer = ""
    if answer.strip().lower() != "yes":
        raise RequestError("final_test.confirm is false, and the answer was not yes: nothing was looked at")


def claim_look(
    config: LookConfig, places: Places, candidate: Candidate, trials: Trials, declaration: Callable[[int], Declaration]
) -> Record:
    """The claim of this look: a new claim, or the study's earlier claim whose evaluation died, for the same weights.

    The ledger has it first, and the study's database after it; nothing is read before both have it.

    Args:
        declaration: that of a look, by the look's number.

    Raises:
        RequestError: the earlier claim is for other weights; or another look was taken in the meantime; or a database
            cannot be written.
    """
    looks, ledger = places.looks, places.ledger
    try:
        looks.make()
        own_id = study_id(trials)
        begun = [record for record in looks.records(candidate.study) if record.kind in (CLAIM, ATTEMPT)]
        remembered = ledger.find(own_id, CLAIM) if ledger else None
        first = begun[0] if begun else remembered
        if first is not None:
            _check_same(candidate, first)
            content = {**first.content, STUDY_ID: own_id}
        else:
            content = _new_claim(config, places, candidate, trials, declaration)
        if ledger is not None and remembered is None:
            ledger.claim(_with_sketches(content, candidate, ledger))
        if not begun:
            return looks.claim(_with_sketches(content, candidate, looks))
        looks.attempt({"study": candidate.study, "attempt": len(begun) + 1})
        return begun[0]
    except Claimed:  # the locks should prevent this; where they fail, the unique keys do
        raise RequestError(f"study.name is {candidate.study}; another process has just claimed this look") from None
    except SQLAlchemyError as error:
        why = str(error).splitlines()[0]
        raise RequestError(
            f"study.storage or looks.ledger cannot be written ({why}), so the look was not taken; make them writable "
            "first"
        ) from None


def _check_same(candidate: Candidate, claim: Record) -> None:
    # The source's name is only shown: its digest counts, and earlier versions named every user's list "file".
    bound = {key: value for key, value in candidate.binding.items() if key != "source"}
    differing = [key for key, value in bound.items() if claim.content.get(key, value) != value]
    if differing:
        key = differing[0]
        raise RequestError(
            f"study.name is {candidate.study}; its look was claimed for {key} {claim.content[key]}, but {key} is now "
            f"{candidate.binding[key]}: a claim can be completed only for the same winner and split"
        )


def _new_claim(
    config: LookConfig, places: Places, candidate: Candidate, trials: Trials, declaration: Callable[[int], Declaration]
) -> dict[str, Any]:
    earlier = check_earlier(config, places, candidate, trials)  # another study may have looked meanwhile
    shown = ("look", "study", "who", "when", "reason")
    look = next_number(earlier)
    return {
        **candidate.binding,
        **who_and_when(),
        STUDY_ID: study_id(trials),
        "look": look,
        "declared": declaration(look).as_json(),
        "earlier": [
            {**{key: look.content.get(key) for key in shown}, "place": look.place, "in_words": look.in_words()}
            for look in earlier
        ],
        "reason": (config.reason or "").strip() or None,
        "signed_by": places.signer.fingerprint if places.signer else None,
        "has_ledger": places.ledger is not None,
        "versions": version_tags(),
    }


def _with_sketches(content: dict[str, Any], candidate: Candidate, table: Looks) -> dict[str, Any]:
    made = sketches(candidate, table.make_sketch_key())
    return {**content, "sketches": {part: found.as_json() for part, found in made.items()}}
