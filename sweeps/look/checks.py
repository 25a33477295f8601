"""What is checked of a recorded look: its copies must agree, and the winner's files be those of the claim."""

from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError

from sweeps.errors import RequestError
from sweeps.look.ledger import STUDY_ID
from sweeps.look.record import RESULT, Looks, who_and_when
from sweeps.task.recorded import read_recorded_config
from sweeps.task.weights import digest_weights, read_weights
from sweeps.tracking.artifacts import find_artifact
from sweeps.tracking.looks import read_look
from sweeps.tracking.queries import find_runs
from sweeps.tracking.registry import find_registered_weights, read_champion
from sweeps.tracking.store import TrackingStore
from sweeps.trials.seal import CLAIM

Content = Mapping[str, Any]
_OF_A_TABLE = ("sketches", STUDY_ID, "claim")  # what each table of looks has of its own


def wrong_copies(store: TrackingStore, ledger: Looks | None, claim: Content, result: Content | None) -> list[str]:
    """A sentence for each copy of a look that says something else than the study's database."""
    study, problems = claim["study"], []
    if ledger is not None and STUDY_ID in claim:
        for kind, content in ((CLAIM, claim), (RESULT, result)):
            copy = ledger.find(claim[STUDY_ID], kind)
            if copy is not None and content is not None and _differ(copy.content, content):
                keys = ", ".join(_differ(copy.content, content))
                problems.append(f"study {study}: the ledger has another {kind} than the database ({keys})")
    if result is None:
        having = [place for place, copy in _copies(store, claim).items() if copy is not None]
        if ledger is not None and STUDY_ID in claim and ledger.find(claim[STUDY_ID], RESULT) is not None:
            having.append("the ledger")
        return problems + [f"study {study}: {place} has a result that the database lacks" for place in having]
    expected = {"test_loss": repr(result["test_loss"]), "look": str(claim["look"])}
    expected["weights_digest"] = claim["weights_digest"]
    for place, known in _copies(store, claim).items():
        problems += [
            f"study {study}: {place} has {key} {known.get(key)}, the database {value}"
            for key, value in expected.items()
            if known is not None and known.get(key) != value
        ]
    return problems


def missing_copies(store: TrackingStore, ledger: Looks | None, claim: Content, result: Content | None) -> list[str]:
    """A sentence for each copy of a look that is not there."""
    if result is None:
        return []
    missing = [place for place, known in _copies(store, claim).items() if known is None]
    # Somebody else's ledger need not know of it.
    mine = claim.get("has_ledger", False) and claim["who"] == who_and_when()["who"]
    if mine and ledger is not None and ledger.find(claim[STUDY_ID], RESULT) is None:
        missing.append("the ledger's copy")
    return [
        f"study {claim['study']}: {place} is missing; makemore final-test study.name={claim['study']} adds it"
        for place in missing
    ]


def altered_files(store: TrackingStore, claim: Content) -> list[str]:
    """A sentence for each file of the winner that is not what the claim says: weights, config, registered model."""
    study, run_id, problems = claim["study"], claim["run_id"], []
    weights = {
        "weights.safetensors of its winner's run": find_artifact(store, run_id, "weights.safetensors"),
        "weights of its registered model": find_registered_weights(store, study, claim["weights_digest"]),
    }
    for what, path in weights.items():
        if path is not None:
            try:
                digest = digest_weights(read_weights(path)[0])
            except (OSError, SafetensorError) as error:
                digest = f"unreadable ({error})"
            if digest != claim["weights_digest"]:
                problems.append(f"study {study}: {what} were altered after the claim")
    config = find_artifact(store, run_id, "config.yaml")
    if config is not None:
        try:
            [run] = find_runs(store, [run_id], "run is")
            read = read_recorded_config(config)
            same = claim["config_hash"] in (read.digest(run.tags.get("seeds")), read.digest())
            problems += [] if same else [f"study {study}: config.yaml of its winner's run was altered after the claim"]
        except RequestError as error:
            problems.append(f"study {study}: config.yaml of its winner's run cannot be checked ({error})")
    return problems


def _copies(store: TrackingStore, claim: Content) -> dict[str, dict[str, str] | None]:
    champion = read_champion(store, claim["study"], claim["weights_digest"])
    return {
        "the MLflow run": read_look(store, claim["study"]),
        # The model of a sweep's winner is registered before its look.
        "the registry": champion if champion and "test_loss" in champion else None,
    }


def _differ(one: Content, other: Content) -> list[str]:
    """The keys at which two records of a look differ, but for what each table has of its own."""
    keys = (one.keys() | other.keys()) - set(_OF_A_TABLE)
    return sorted(key for key in keys if one.get(key) != other.get(key))
