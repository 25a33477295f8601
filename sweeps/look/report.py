"""Looks at test splits for people to read: the report of one, its picture, and the verified list of all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig

from makemore.limits import LimitError
from sweeps.config.reading import read_node
from sweeps.databases import resolve_url
from sweeps.errors import ChainBroken
from sweeps.look.record import ATTEMPT, RESULT, Looks, Record
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.seal import CLAIM

Content = Mapping[str, Any]


def as_text(claim: Content, result: Content, claims: Sequence[Record]) -> str:
    """The report of a look, one page of Markdown; `claims` are all those on the same source."""
    lines = [
        f"# Test loss {result['test_loss']:.4f} nats per character (look {claim['look']})",
        "",
        f"95 % interval {_interval(result['test_loss_low'], result['test_loss_high'])}, perplexity "
        f"{result['perplexity']:.3f}, {result['bits_per_character']:.4f} bits per character; {result['words']} words, "
        f"{result['characters']} characters.",
        "",
        f"- Winner: trial {claim['trial']} of study {claim['study']}, run {claim['run_id']}, "
        f"config {claim['config_hash']}, weights {claim['weights_digest'][:12]}.",
        f"- Split: {claim['source']}, {claim['split']}, seed {claim['split_seed']}, {claim['split_digest'][:12]}.",
        f"- Dev loss {result['dev_loss']:.4f}: the test loss is {result['gap']:+.4f} from it{_selection(result)}.",
        f"- {result['words_also_in_train']} of the words also stand in train{_without(result)}.",
        f"- Claimed by {claim['who']} on {claim['when']}; read in {result['attempts']} "
        f"{'attempt' if result['attempts'] == 1 else 'attempts'}.",
        "",
        "| against | smoothing | test loss | worse by | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for one in result["baselines"]:
        smoothing = "-" if one["smoothing"] is None else f"{one['smoothing']:.3g}"
        lines.append(
            f"| {one['name']} | {smoothing} | {one['test_loss']:.4f} | {one['difference']:+.4f} | "
            f"{_interval(one['low'], one['high'])} |"
        )
    lines += [
        "",
        "Intervals are bootstrapped over words; those of the last column pair the two models' losses word by word.",
    ]
    others = [record.content for record in claims if record.content["study"] != claim["study"]]
    if others:
        lines += [
            "",
            f"This is look {claim['look']} at these words (reason: {claim['reason'] or 'none'}). The others:",
            "",
        ]
        lines += [
            f"- look {one['look']}: study {one['study']}, by {one['who']} on {one['when']}, "
            f"reason: {one['reason'] or 'none'}"
            for one in others
        ]
    return "\n".join(lines)


def _interval(low: float, high: float) -> str:
    return f"[{low:.4f}, {high:.4f}]"


def _selection(result: Content) -> str:
    if result["selection"] is None:
        return ""
    return f"; by fresh seeds, picking the best trial made the dev loss look {result['selection']:.4f} too good"


def _without(result: Content) -> str:
    loss = result["test_loss_without_them"]
    return f"; without them the loss is {loss:.4f}" if loss is not None else ""


def draw(claim: Content, result: Content) -> Figure:
    """Test losses of the winner, with its interval, and of the baselines."""
    names = ["winner", *(one["name"] for one in result["baselines"])]
    losses = [result["test_loss"], *(one["test_loss"] for one in result["baselines"])]
    figure = Figure(figsize=(6, 0.5 * len(names) + 1))
    axes = figure.add_axes((0.2, 0.18, 0.76, 0.7))
    axes.barh(names, losses, color=["tab:blue", *["lightgray"] * (len(names) - 1)])
    axes.errorbar(
        losses[0],
        0,
        xerr=[[losses[0] - result["test_loss_low"]], [result["test_loss_high"] - losses[0]]],
        color="black",
        capsize=4,
    )
    axes.invert_yaxis()
    for row, loss in enumerate(losses):
        axes.annotate(f" {loss:.3f}", (max(loss, result["test_loss_high"]), row), va="center")
    title = f"study {claim['study']}: look {claim['look']} at {claim['source']} ({claim['split']})"
    axes.set(xlabel="test loss, nats per character", xlim=(0, max(losses) * 1.12), title=title)
    return figure


def check_format(form: str) -> None:
    """Raise LimitError unless it is one that looks can be printed in."""
    if form not in ("text", "json"):
        raise LimitError("format", form, "text or json")


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
    return [one for one in store.looks() if one["claim_hash"] not in claimed]


def disagreements(store: TrackingStore, claim: Content, result: Content | None) -> list[str]:
    """Where the copies in MLflow differ from the database, in words."""
    found = []
    if result is None:
        return []
    for place, copy in (
        ("the MLflow run", store.read_look(claim["study"])),
        ("the registry", store.champion_of(claim)),
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
