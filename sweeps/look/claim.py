"""The claim of a look, written before any test item is read, and the reasons to refuse it."""

import sys
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from sweeps.errors import RequestError
from sweeps.look.audit import lost_looks
from sweeps.look.candidate import Candidate
from sweeps.look.record import ATTEMPT, Claimed, Looks, Record
from sweeps.task import held_out
from sweeps.task.items import read_items
from sweeps.tracking.store import TrackingStore
from sweeps.tracking.versions import version_tags
from sweeps.trials.seal import CLAIM


@dataclass(frozen=True)
class LookConfig:
    """Consent to the look without a question (`confirm`), and the reason for a look after the first."""

    confirm: bool
    reason: str | None


def check_earlier(config: LookConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> None:
    """Refuse another look at the same source without a reason.

    Raises:
        RequestError: another study has looked at the source, and `reason` is empty; or MLflow has a look at it that
            the database has lost.
    """
    mine, item = candidate.items.split.source_digest, candidate.run.task.item
    lost = [copy for copy in lost_looks(store, looks.records()) if copy["source_digest"] == mine]
    if lost:
        raise RequestError(
            f"study.name is {candidate.study}; tracking.uri has a look at its {item}s for study {lost[0]['study']} "
            "that study.storage lacks: give the database in which that look was recorded (see makemore looks)"
        )
    earlier = earlier_claims(looks, candidate)
    if not earlier or (config.reason or "").strip():
        return
    items, split = read_items(candidate.run.task), candidate.items.split
    listed = []
    for claim in earlier:
        look = claim.content
        share = held_out.share_of(items, split.rule, split.seed, look["split"], look["split_seed"])
        listed.append(
            f"look {look['look']} by {look['who']} on {look['when']} for study {look['study']}, which saw {share:.0%} "
            "of this test split"
        )
    raise RequestError(
        f"study.name is {candidate.study}; its {item}s have been looked at: {'; '.join(listed)}; another look needs "
        'final_test.reason="..." and is counted'
    )


def earlier_claims(looks: Looks, candidate: Candidate) -> list[Record]:
    """The claims of other studies on the candidate's source, in order."""
    claims = looks.claims_of(candidate.items.split.source_digest)
    return [claim for claim in claims if claim.content["study"] != candidate.study]


def ask(looks: Looks, candidate: Candidate) -> None:
    """Print what the look will spend, and ask for a yes at the terminal.

    Raises:
        RequestError: the answer is not yes, or there is no terminal.
    """
    facts, number = candidate.binding, len(earlier_claims(looks, candidate)) + 1
    item = candidate.run.task.item
    if not sys.stdin.isatty():
        raise RequestError(
            "final_test.confirm is false; it must be true where there is no terminal to ask at: this spends the look"
        )
    print(
        f"The test split of {facts['source']} ({facts['split']}, seed {facts['split_seed']}, "
        f"{facts['split_digest'][:12]}) will be looked at, once:\n"
        f"look {number} at these {item}s, for study {facts['study']}, whose winner is trial {facts['trial']} with dev "
        f"loss {facts['dev_loss']:.4f} (its weights give the same loss again).\n"
        "The study takes no more trials afterwards.",
        file=sys.stderr,
    )
    if input("Look? Type yes: ").strip().lower() != "yes":
        raise RequestError("final_test.confirm is false, and the answer was not yes: nothing was looked at")


def claim_look(config: LookConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> Record:
    """The claim of this look: a new claim, or the study's earlier claim whose evaluation died, for the same weights.

    Raises:
        RequestError: the earlier claim is for other weights; or another look was taken in the meantime; or the
            database cannot be written.
    """
    begun = [record for record in looks.records(candidate.study) if record.kind in (CLAIM, ATTEMPT)]
    if begun:
        claim = begun[0]
        differing = [key for key, value in candidate.binding.items() if claim.content[key] != value]
        if differing:
            raise RequestError(
                f"study.name is {candidate.study}; its look was claimed for {differing[0]} "
                f"{claim.content[differing[0]]}, but {differing[0]} is now {candidate.binding[differing[0]]}: "
                "a claim can be completed only for the same winner and split"
            )
        looks.attempt({"study": candidate.study, "attempt": len(begun) + 1})
        return claim
    check_earlier(config, looks, store, candidate)  # another study may have looked while the user was asked
    number = len(earlier_claims(looks, candidate)) + 1
    reason = (config.reason or "").strip() or None
    content = {**candidate.binding, "look": number, "reason": reason, "versions": version_tags()}
    try:
        return looks.claim(content)
    except Claimed:  # the lock should prevent this; where it fails, the unique keys do
        raise RequestError(f"study.name is {candidate.study}; another process has just claimed this look") from None
    except SQLAlchemyError as error:
        why = str(error).splitlines()[0]
        raise RequestError(
            f"study.storage cannot be written ({why}), so the look was not taken; make it writable first"
        ) from None
