"""The list of looks, with its chain of hashes and its copies in MLflow verified."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from sweeps.config.command_line import command_line
from sweeps.config.names import check_output
from sweeps.config.reading import read_node
from sweeps.config.terminal import wrap
from sweeps.databases import NoRecords, resolve_url
from sweeps.errors import ChainBroken
from sweeps.look.checks import altered_files, missing_copies, wrong_copies
from sweeps.look.ledger import STUDY_ID, find_ledger
from sweeps.look.lost import lost_looks
from sweeps.look.receipt import check_receipt, write_receipt
from sweeps.look.record import ATTEMPT, RESULT, Looks, Record
from sweeps.look.report import Content, check_format
from sweeps.look.signing import check_signatures
from sweeps.reports.tables import to_text
from sweeps.tracking.store import open_tracking
from sweeps.trials.seal import CLAIM
from sweeps.trials.storage import open_storage


@dataclass(frozen=True)
class LooksConfig:
    """The keys of `makemore looks`: the format of the list, and the file of a receipt."""

    format: str
    receipt: str | None

    def __post_init__(self) -> None:
        check_format(self.format)
        check_output("receipt", self.receipt)


def list_looks(cfg: DictConfig) -> str:
    """The text that `makemore looks` prints: the looks of one study or of all studies.

    Raises:
        RequestError: study.storage does not exist, or a value is wrong.
        ChainBroken: a record was altered, or a copy in MLflow differs. The message is the list with what is broken.
    """
    config: LooksConfig = read_node(LooksConfig, cfg, "")
    ledger = find_ledger(cfg)
    try:
        url = resolve_url("study.storage", cfg.study.storage, table="studies", must_exist=True, writes=False)
    except NoRecords:
        if ledger is None or config.format == "json":
            raise
        return "\n".join(_elsewhere(ledger, ()) or ["no test split has been looked at"])
    looks = Looks(url)
    name = None if cfg.study.name is None else str(cfg.study.name)
    records = looks.records(name)
    claims = [record for record in records if record.kind == CLAIM]
    results = {record.content["study"]: record.content for record in records if record.kind == RESULT}
    store = open_tracking(cfg, create=False)
    broken = looks.broken()
    broken += [f"the ledger: {problem}" for problem in ledger.broken()] if ledger else []
    broken += [
        f"study {lost.study}: {lost.place} has a look that the database lacks"
        for lost in lost_looks(looks, ledger, store, open_storage(url))
    ]
    for claim in claims:
        result = results.get(claim.content["study"])
        broken += wrong_copies(store, ledger, claim.content, result)
        broken += missing_copies(store, ledger, claim.content, result)
        broken += altered_files(store, claim.content)
    told, wrong = check_signatures(records)
    broken += wrong
    if config.receipt is not None:
        path, everything = Path(config.receipt), looks.records()
        if path.exists():
            broken += check_receipt(path, everything)
            told.append(f"compared with the receipt {path}")
        elif not broken:
            write_receipt(path, everything)
            told.append(f"receipt written: {path}; keep it where nobody here can change it, or have it time-stamped")
    if config.format == "json":
        shown = _as_json(records, broken)
    else:
        elsewhere = _elsewhere(ledger, records) if ledger and name is None else []
        shown = _as_list(claims, records, results, broken, [*elsewhere, *map(wrap, told)])
    if broken:
        raise ChainBroken(shown)
    return shown


def _as_json(records: Sequence[Record], broken: Sequence[str]) -> str:
    rows = [{"number": record.number, "kind": record.kind, **record.content, "hash": record.hash} for record in records]
    return json.dumps({"records": rows, "broken": list(broken)}, indent=2)


def _elsewhere(ledger: Looks, records: Sequence[Record]) -> list[str]:
    """A sentence for each look that the ledger knows, and the study's database does not: of another folder, say."""
    here = {record.content.get(STUDY_ID) for record in records if record.kind == CLAIM}
    return [
        wrap(
            f"look {look['look']} at {look['source']} for study {look['study']}, by {look['who']} on {look['when']}: "
            "known to the ledger alone, as it was taken elsewhere"
        )
        for look in (claim.content for claim in ledger.claims())
        if look[STUDY_ID] not in here
    ]


def _as_list(
    claims: Sequence[Record],
    records: Sequence[Record],
    results: Mapping[str, Content],
    broken: Sequence[str],
    remarks: Sequence[str],
) -> str:
    lines = [_as_table([claim.content for claim in claims], records, results)] if claims else []
    for look in (claim.content for claim in claims):
        if look["study"] not in results:
            cure = command_line("final-test", f"study.name={look['study']}")
            lines += [wrap(f"study {look['study']}: no result yet; this completes it:"), f"    {cure}"]
        if look["reason"]:
            lines.append(wrap(f"study {look['study']}: reason: {look['reason']}"))
    lines += remarks
    if not lines:
        lines = ["no test split has been looked at"]
    lines += [wrap(f"BROKEN: {what}") for what in broken]
    if not broken and claims:
        lines.append("the chain of hashes is intact, and the copies in MLflow agree")
    return "\n".join(lines)


def _as_table(looks: Sequence[Content], records: Sequence[Record], results: Mapping[str, Content]) -> str:
    repeated = Counter(record.content["study"] for record in records if record.kind == ATTEMPT)
    rows = [
        {
            "study": look["study"],
            "look": look["look"],
            "test_loss": results.get(look["study"], {}).get("test_loss", math.nan),
            "trial": look["trial"],
            "data": look["source"],
            "split": look["split"],
            "when": look["when"],
            "who": look["who"],
            "split_seed": look["split_seed"],
            "split_digest": look["split_digest"][:12],
            "attempts": 1 + repeated[look["study"]],
        }
        for look in looks
    ]
    return to_text(pd.DataFrame(rows), "format=json has all")
