"""The list of looks, verified: the chain of hashes, and the copies in MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from sweeps.config.reading import read_node
from sweeps.databases import resolve_url
from sweeps.errors import ChainBroken
from sweeps.look.record import ATTEMPT, RESULT, Looks, Record
from sweeps.look.report import Content, check_format
from sweeps.tracking.looks import copied_looks, read_look
from sweeps.tracking.registry import read_champion
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.seal import CLAIM


@dataclass(frozen=True)
class LooksConfig:
    """How the list is printed."""

    format: str

    def __post_init__(self) -> None:
        check_format(self.format)


def list_looks(cfg: DictConfig) -> str:
    """What `makemore looks` prints.

    Raises:
        RequestError: there are no records.
        ChainBroken: the records were altered, or their copies do not agree; with the list, and what is broken.
    """
    config: LooksConfig = read_node(LooksConfig, cfg, "")
    url = resolve_url("study.storage", cfg.study.storage, table="studies", must_exist=True)
    looks = Looks(url)
    looks.create()
    name = None if cfg.study.name is None else str(cfg.study.name)
    records = looks.records(name)
    claims = [record for record in records if record.kind == CLAIM]
    results = {record.content["study"]: record.content for record in records if record.kind == RESULT}
    store = open_tracking(cfg, create=False)
    broken = looks.broken()
    broken += [
        f"study {one['study']}: MLflow has a look that the database lacks" for one in lost_looks(store, looks.records())
    ]
    for claim in claims:
        broken += disagreements(store, claim.content, results.get(claim.content["study"]))
    shown = _as_json(records, broken) if config.format == "json" else _as_list(claims, records, results, broken)
    if broken:
        raise ChainBroken(shown)
    return shown


def lost_looks(store: TrackingStore, records: Sequence[Record]) -> list[dict[str, str]]:
    """Looks that MLflow has a run of, and the database no claim: whoever deleted it forgot the copies."""
    claimed = {record.hash for record in records if record.kind == CLAIM}
    return [one for one in copied_looks(store) if one["claim_hash"] not in claimed]


def disagreements(store: TrackingStore, claim: Content, result: Content | None) -> list[str]:
    """Where the copies in MLflow differ from the database, in words."""
    found = []
    if result is None:
        return []
    for place, copy in (
        ("the MLflow run", read_look(store, claim["study"])),
        ("the registry", read_champion(store, claim["study"], claim["weights_digest"])),
    ):
        if copy is None:
            found.append(
                f"study {claim['study']}: {place} is missing; makemore final-test study.name={claim['study']} adds it"
            )
            continue
        expected = {
            "test_loss": repr(result["test_loss"]),
            "look": str(claim["look"]),
            "weights_digest": claim["weights_digest"],
        }
        found += [
            f"study {claim['study']}: {place} has {key} {copy.get(key)}, the database {value}"
            for key, value in expected.items()
            if copy.get(key) != value
        ]
    return found


def _as_json(records: Sequence[Record], broken: Sequence[str]) -> str:
    rows = [{"number": one.number, "kind": one.kind, **one.content, "hash": one.hash} for one in records]
    return json.dumps({"records": rows, "broken": list(broken)}, indent=2)


def _as_list(
    claims: Sequence[Record], records: Sequence[Record], results: Mapping[str, Content], broken: Sequence[str]
) -> str:
    lines = []
    for claim in claims:
        one, result = claim.content, results.get(claim.content["study"])
        loss = f"test loss {result['test_loss']:.4f}" if result else "no result yet: makemore final-test completes it"
        attempts = 1 + sum(record.kind == ATTEMPT and record.content["study"] == one["study"] for record in records)
        lines.append(
            f"look {one['look']} at {one['source']} "
            f"({one['split']}, seed {one['split_seed']}, {one['split_digest'][:12]}): "
            f"study {one['study']}, trial {one['trial']}, {loss}; {one['who']}, {one['when']}"
            + (f", {attempts} attempts" if attempts > 1 else "")
            + (f"; reason: {one['reason']}" if one["reason"] else "")
        )
    if not lines:
        lines = ["no test split has been looked at"]
    lines += [f"BROKEN: {what}" for what in broken]
    if not broken and claims:
        lines.append("the chain of hashes holds, and the copies in MLflow agree")
    return "\n".join(lines)
