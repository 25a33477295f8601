"""`makemore final-test`: the one look at the test split, for a study's winner.

Each step is durable before the next begins:

1. The claim, a row with unique keys in the ledger and then in the study's database, fixes the split, its source, the
   winner's weights and what was declared before: how the winner was found, and what the look can show.
2. The test items, of the list as it was read for that proof, are evaluated, and the result is written to the study's
   database and shown.
3. The result is copied to the ledger, an MLflow run and the model registry.

If the command is killed after any step, running it again continues from there, for the same weights.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig

from sweeps.config.messages import one_line
from sweeps.config.names import check_study_name
from sweeps.config.reading import read_node
from sweeps.databases import locked, resolve_url
from sweeps.errors import ChainBroken, RequestError, TestSplitAlreadyUsed
from sweeps.look.beside import find_beside
from sweeps.look.candidate import check_idle, find_candidate
from sweeps.look.checks import wrong_copies
from sweeps.look.claim import LookConfig, Places, announce, ask, check_earlier, claim_look
from sweeps.look.declaration import declare
from sweeps.look.earlier import next_number
from sweeps.look.evaluation import record_result
from sweeps.look.ledger import STUDY_ID, find_ledger, make_ledger, study_id
from sweeps.look.record import RESULT, Looks, Record
from sweeps.look.report import as_page, as_text, check_format, draw
from sweeps.look.signing import Signer, check_promise, find_signer, signature_problems
from sweeps.tracking.looks import log_look
from sweeps.tracking.registry import register_champion
from sweeps.tracking.store import open_tracking
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.seal import CLAIM
from sweeps.trials.trials import Trials, find_trials, open_trials


@dataclass(frozen=True)
class FinalTestConfig:
    """The keys of `makemore final-test`."""

    final_test: LookConfig
    format: str

    def __post_init__(self) -> None:
        check_format(self.format)


def final_test(cfg: DictConfig) -> str:
    """Take the look of a study, and print its result as soon as it is recorded; what is returned is empty.

    Raises:
        RequestError: the look is refused; no test item was read.
        TestSplitAlreadyUsed: the study has looked before; the recorded result is printed.
        ChainBroken: the study has looked before, and its record was altered: no result is printed.
    """
    config: FinalTestConfig = read_node(FinalTestConfig, cfg, "")
    name = cfg.study.name
    if name is None:
        raise RequestError(
            "study.name is not given; a look is for one study: give study.name=NAME (see makemore compare)"
        )
    check_study_name(str(name))
    url = resolve_url("study.storage", cfg.study.storage, table="studies", must_exist=True)
    store = open_tracking(cfg, create=False, writes=True)
    trials = open_trials(str(name), url, create=False)
    confirm = find_trials(confirm_study_name(trials.name), url)
    places = Places(Looks(url), find_ledger(cfg), store, find_signer(cfg))
    if unreadable := places.looks.unreadable():
        raise ChainBroken("\n".join(f"BROKEN: {problem}" for problem in unreadable))
    look = config.final_test
    if places.looks.find(trials.name, CLAIM) is None:
        candidate = find_candidate(store, trials, confirm, look.unfinished)
        earlier = check_earlier(look, places, candidate, trials)
        if places.signer:
            places.signer.check()
        if not look.confirm:
            if not sys.stdin.isatty():
                raise RequestError(
                    "final_test.confirm is false; it must be true where there is no terminal to ask at: this spends "
                    "the look"
                )
            declared = declare(candidate, find_beside(store, candidate), trials, confirm, next_number(earlier))
            print(announce(candidate, earlier, declared), file=sys.stderr)
            ask()
    places = replace(places, ledger=make_ledger(cfg))
    # A second process waits here until the first has ended or died, also one that looks in another folder.
    with locked(url, "looks"), locked(places.ledger.url, "looks") if places.ledger else nullcontext():
        _look(config, places, trials, confirm)
    return ""


def _look(config: FinalTestConfig, places: Places, trials: Trials, confirm: Trials | None) -> None:
    looks, name = places.looks, trials.name
    new = looks.find(name, RESULT) is None
    if new:
        candidate = find_candidate(places.store, trials, confirm, config.final_test.unfinished)
        beside = find_beside(places.store, candidate)
        study_id(trials)  # made here: what is done while alone may be undone, and a claim that names the id is not
        with trials.alone() as standing:  # no trial can begin between this check and the claim
            check_idle(name, standing)
            declaration = partial(declare, candidate, beside, trials, confirm)
            claim = claim_look(config.final_test, places, candidate, trials, declaration)
        check_promise(claim, places.signer)
        if places.signer:
            places.signer.sign(looks, claim)
        record_result(looks, candidate, beside, claim)
    if places.signer and (claim := look_of(looks, name)[0]).content.get("signed_by"):
        _sign_result(places.signer, looks, claim)
    if not new:
        _check_intact(places, name)
    print(show(looks, name, config.format), flush=True)
    try:
        _copy(places, trials)
    except Exception as error:  # the look is spent, and its result shown, whatever happens to the copies
        print(
            f"makemore: the result is recorded in study.storage, but not yet copied to MLflow and the ledger "
            f"({one_line(error)}); run the same command again to add the copies",
            file=sys.stderr,
        )
    if not new:
        raise TestSplitAlreadyUsed


def _sign_result(signer: Signer, looks: Looks, claim: Record) -> None:
    """Sign a recorded result, if that is still to be done; what goes wrong is said."""
    result = looks.find(claim.content["study"], RESULT)
    try:
        check_promise(claim, signer)
        if result is not None:
            signer.sign(looks, result)
    except RequestError as error:
        print(f"makemore: the result is recorded, but not signed ({error})", file=sys.stderr)


def _check_intact(places: Places, study: str) -> None:
    """Raise ChainBroken if a result that is about to be shown may not be the one that was recorded."""
    claim, result = look_of(places.looks, study)
    problems = places.looks.broken()
    problems += wrong_copies(places.store, places.ledger, claim.content, result.content)
    problems += signature_problems(places.looks.records(study))
    if problems:
        lines = [f"BROKEN: {problem}" for problem in problems]
        raise ChainBroken("\n".join([*lines, f"the result of study {study} is not shown: see makemore looks"]))


def show(looks: Looks, study: str, form: str) -> str:
    """The recorded look of a study, as Markdown (form "text") or JSON (form "json")."""
    claim, result = look_of(looks, study)
    if form == "json":
        shown = {key: value for key, value in claim.content.items() if key != "sketches"}
        return json.dumps({**result.content, **shown}, indent=2)
    return as_text(claim.content, result.content, _others(looks, claim.content))


def look_of(looks: Looks, study: str) -> tuple[Record, Record]:
    """The claim and the result of a study that has both of them.

    Raises:
        ChainBroken: the claim is gone.
    """
    claim, result = looks.find(study, CLAIM), looks.find(study, RESULT)
    if claim is None or result is None:
        raise ChainBroken(f"BROKEN: study {study} has a result without a claim; it is not shown")
    return claim, result


def _others(looks: Looks, claim: Mapping[str, Any]) -> list[Record]:
    """The looks of other studies at the same items: those before, from wherever, and later ones of this database."""
    before = [Record(0, CLAIM, look, "") for look in claim.get("earlier", [])]
    known = {record.content["study"] for record in before}
    return before + [
        record
        for record in looks.claims()
        if record.content["source_digest"] == claim["source_digest"] and record.content["study"] not in known
    ]


def _copy(places: Places, trials: Trials) -> None:
    """Copy the result to the ledger, an MLflow run under the study and the registry. Existing copies are kept."""
    claim, result = look_of(places.looks, trials.name)
    if places.ledger is not None:
        own_id = study_id(trials)
        for record in (claim, result):
            if places.ledger.find(own_id, record.kind) is None:
                places.ledger.copy(record, {STUDY_ID: own_id})
    told = claim.content, result.content, _others(places.looks, claim.content)
    texts = {"report.md": as_text(*told), "report.html": as_page(*told)}
    log_look(places.store, claim.content, result.content, texts, draw(claim.content, result.content))
    register_champion(places.store, claim.content, result.content)
