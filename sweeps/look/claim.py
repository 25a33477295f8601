"""The claim of a look, written before anything is read; and what stands against it."""

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
    """Whether to ask first, and why another look is needed."""

    confirm: bool
    reason: str | None


def check_earlier(config: LookConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> None:
    """What was seen of the source before.

    Raises:
        RequestError: it has been looked at, and no reason is given for another look; or MLflow has a look at it that
            the database has lost.
    """
    mine, item = candidate.items.split.source_digest, candidate.run.task.item
    lost = [one for one in lost_looks(store, looks.records()) if one["source_digest"] == mine]
    if lost:
        raise RequestError(
            f"study.name is {candidate.study}; tracking.uri has a look at its {item}s for study {lost[0]['study']} "
            "that study.storage lacks: give the database that it was recorded in (see makemore looks)"
        )
    earlier = earlier_claims(looks, candidate)
    if not earlier or (config.reason or "").strip():
        return
    items, split = read_items(candidate.run.task), candidate.items.split
    listed = []
    for claim in earlier:
        one = claim.content
        share = held_out.share_of(items, split.rule, split.seed, one["split"], one["split_seed"])
        listed.append(
            f"look {one['look']} by {one['who']} on {one['when']} for study {one['study']}, which saw {share:.0%} of "
            "this test split"
        )
    raise RequestError(
        f"study.name is {candidate.study}; its {item}s have been looked at: {'; '.join(listed)}; another look needs "
        'final_test.reason="..." and is counted'
    )


def earlier_claims(looks: Looks, candidate: Candidate) -> list[Record]:
    """The claims of other studies on the same source."""
    claims = looks.claims_of(candidate.items.split.source_digest)
    return [claim for claim in claims if claim.content["study"] != candidate.study]


def ask(looks: Looks, candidate: Candidate) -> None:
    """Say what is about to be spent, and ask.

    Raises:
        RequestError: the answer is no, or nobody is there to give it.
    """
    one, number = candidate.binding, len(earlier_claims(looks, candidate)) + 1
    item = candidate.run.task.item
    if not sys.stdin.isatty():
        raise RequestError(
            "final_test.confirm is false; without a terminal to ask at it must be true: the look is spent"
        )
    print(
        f"The test split of {one['source']} ({one['split']}, seed {one['split_seed']}, {one['split_digest'][:12]}) is "
        f"going to be looked at, once:\nlook {number} at these {item}s, for study {one['study']}, whose winner is "
        f"trial {one['trial']} with dev loss {one['dev_loss']:.4f} (computed again from its weights: equal).\n"
        "The study takes no more trials afterwards.",
        file=sys.stderr,
    )
    if input("Look? Type yes: ").strip().lower() != "yes":
        raise RequestError("final_test.confirm is false, and the answer was not yes: nothing was looked at")


def claim_look(config: LookConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> Record:
    """The claim of this look: a new one, or the one whose evaluation died, if it is for the same weights.

    Raises:
        RequestError: the claim is for other weights, or there has been another look since it was asked for.
    """
    found = [record for record in looks.records(candidate.study) if record.kind in (CLAIM, ATTEMPT)]
    if found:
        claim = found[0]
        differing = [key for key, value in candidate.binding.items() if claim.content[key] != value]
        if differing:
            raise RequestError(
                f"study.name is {candidate.study}; its look was claimed for {differing[0]} "
                f"{claim.content[differing[0]]}, which now is {candidate.binding[differing[0]]}: "
                "only the same can be completed"
            )
        looks.attempt({"study": candidate.study, "attempt": len(found) + 1})
        return claim
    check_earlier(config, looks, store, candidate)  # another may have looked while this one was asked for
    number = len(earlier_claims(looks, candidate)) + 1
    reason = (config.reason or "").strip() or None
    content = {**candidate.binding, "look": number, "reason": reason, "versions": version_tags()}
    try:
        return looks.claim(content)
    except Claimed:  # the lock forbids it; if it fails, the unique keys hold
        raise RequestError(f"study.name is {candidate.study}; another process has just claimed this look") from None
    except SQLAlchemyError as error:
        why = str(error).splitlines()[0]
        raise RequestError(
            f"study.storage cannot be written ({why}), so the look is not taken; mend it first"
        ) from None
