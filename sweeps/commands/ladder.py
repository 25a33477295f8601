"""`makemore ladder`: how much each step from guessing to a sweep's winner lowers the dev loss."""

import copy
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import astuple, dataclass
from typing import Any

import pandas as pd
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import DictConfig
from optuna.trial import TrialState

from makemore.limits import LimitError
from makemore.train import Diverged, one_thread
from sweeps.config.names import check_output
from sweeps.config.reading import read_node
from sweeps.config.terminal import wrap
from sweeps.errors import RequestError
from sweeps.reports.intervals import means
from sweeps.reports.paired import dev_losses
from sweeps.reports.studies import read_study
from sweeps.reports.tables import DIFFERENCE, formatted, to_csv, to_json, to_markdown, to_text
from sweeps.study.runs import RungPlace, open_run
from sweeps.task.fonts import find_font
from sweeps.task.items import Items
from sweeps.task.language_model.task import LanguageModel
from sweeps.task.run_config import read_run_config
from sweeps.tracking.artifacts import fetch_artifact
from sweeps.tracking.datasets import dataset_digest
from sweeps.tracking.queries import RunRecord, ladder_rungs
from sweeps.tracking.runs import TrackedRun, open_ladder_run
from sweeps.tracking.store import TrackingStore, open_tracking

_RENDERERS: dict[str, Callable[[pd.DataFrame], str]] = {
    "table": to_text,
    "csv": to_csv,
    "json": to_json,
    "markdown": lambda table: to_markdown(formatted(table)),
}
_LOSS = ["dev_loss", "dev_loss_low", "dev_loss_high"]
_MOST_LETTERS = 20  # longer invented words are cut: a model that guesses hardly ever ends a word


@dataclass(frozen=True)
class RungsConfig:
    """The rungs below the winner, and the file for the picture."""

    rungs: dict[str, Any]  # name -> a `model` node; from a list of values, the one with the lowest dev loss is taken
    smoothing: list[Any]
    discount: list[Any]
    picture: str | None

    def __post_init__(self) -> None:
        if not self.rungs or not all(isinstance(model, dict) for model in self.rungs.values()):
            raise LimitError("rungs", self.rungs, "models by name, as in conf/ladder.yaml")
        check_output("picture", self.picture, ".png")


@dataclass(frozen=True)
class LadderConfig:
    """The keys of `makemore ladder`: the rungs, and the format of the table."""

    ladder: RungsConfig
    format: str

    def __post_init__(self) -> None:
        if self.format not in _RENDERERS:
            raise LimitError("format", self.format, " or ".join(_RENDERERS))


@dataclass(frozen=True)
class RungCandidate:
    """A config that may represent a rung, and its values of the keys for which the rung has lists."""

    cfg: DictConfig
    chosen: str

    @property
    def config_hash(self) -> str:
        """The identity of the run that the config asks for (12 hex digits)."""
        return read_run_config(self.cfg).digest()


@dataclass(frozen=True)
class Rung:
    """A rung of the ladder, and the run that represents it."""

    name: str
    chosen: str  # the values that were chosen by dev loss, as "key=value key=value"
    run: RunRecord


def ladder(cfg: DictConfig) -> str:
    """The text that `makemore ladder` prints: a table with a row for each rung. The picture is drawn and recorded.

    The study runs first, because it refuses a wrong request before anything is written. Rungs that are recorded
    already are not trained again.

    Raises:
        RequestError: a value is wrong; nothing was started.
        AllTrialsFailed: the study has no winner.
    """
    config: LadderConfig = read_node(LadderConfig, cfg, "")
    name = str(cfg.study.name)
    candidates = {rung: _candidates(cfg, rung, model) for rung, model in config.ladder.rungs.items()}
    items = read_run_config(cfg).deal_items()
    _run_study()
    store = open_tracking(cfg)
    parent = open_ladder_run(store, name, items)
    try:
        chosen = {rung: _choose(choices) for rung, choices in candidates.items()}
        winner, confirmation = _winner(store, name)
        table = tabulate(store, [*_train(store, name, parent.run_id, chosen), winner], items)
        remarks = [
            f"Dev losses in nats per character on the {items.split.rule} split of {items.name}. difference: dev loss "
            "minus that of the rung before, paired by word. low and high: 95 % intervals over "
            f"{len(items.split.dev)} dev words.",
            "The values under chosen were chosen by these dev losses, which makes them slightly too low, the winner's "
            "most. " + confirmation,
        ]
        _record(parent, table, remarks, config.ladder.picture)
    except BaseException as error:
        parent.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    parent.end("FINISHED")
    text = _RENDERERS[config.format](table)
    if config.format in ("csv", "json"):
        return text
    picture = f"picture: {config.ladder.picture or 'with the run'}; run {parent.run_id}"
    shown = [wrap(remark) for remark in remarks] if config.format == "table" else remarks
    return "\n".join([text, "", *shown, picture])


def _candidates(cfg: DictConfig, rung: str, model: dict[str, Any]) -> list[RungCandidate]:
    """A candidate for each combination of the values in a rung's lists."""
    lists = {key: value for key, value in model.items() if isinstance(value, list)}
    if empty := [key for key, value in lists.items() if not value]:
        raise RequestError(f"ladder.rungs.{rung}.{empty[0]} is []; it must be one value, or for n-grams a list of them")
    candidates = []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        rung_cfg = copy.deepcopy(cfg)
        rung_cfg.model = {**model, **chosen}
        try:
            task = read_run_config(rung_cfg).task
        except RequestError as error:
            raise RequestError(f"ladder.rungs.{rung}: {error}") from None
        if not isinstance(task, LanguageModel):
            raise RequestError("task must be language_model: the rungs of a ladder are language models")
        if lists and not task.model.counted:
            key, value = next(iter(lists.items()))
            raise RequestError(
                f"ladder.rungs.{rung}.{key} is {value}; it must be one value; n-grams alone may have a list of them"
            )
        candidates.append(RungCandidate(rung_cfg, " ".join(f"{key}={value}" for key, value in chosen.items())))
    return candidates


def _run_study() -> None:
    """Run the study of this command's config as `makemore sweep` would, with its output on standard error."""
    overrides = HydraConfig.get().overrides
    given = [line for line in overrides.hydra if not line.startswith("hydra.mode=")]
    with redirect_stdout(sys.stderr):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None  # Hydra is running this command
        hydra.multirun(
            "ladder", task_function=lambda cfg: None, overrides=[*given, *overrides.task], with_log_configuration=False
        )


def _counted_loss(cfg: DictConfig) -> float:
    """The dev loss of a counted model in nats per character; infinite where a dev character has probability zero."""
    config = read_run_config(cfg)
    split = config.deal_items().split
    with one_thread():
        try:
            trained = config.task.train(split.train, split.dev, config.seed, lambda step, dev_loss, **metrics: None)
        except Diverged:
            return math.inf
        losses, terms = config.task.losses(trained, split.dev)
        return float(losses.sum() / terms.sum())


def _choose(candidates: list[RungCandidate]) -> RungCandidate:
    """The candidate with the lowest dev loss; the first of equally good candidates."""
    if len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=lambda candidate: _counted_loss(candidate.cfg))


def _recorded(store: TrackingStore, name: str) -> dict[str, RunRecord]:
    """The newest finished run for each config hash among a ladder's rungs."""
    finished = [run for run in ladder_rungs(store, name) if run.state == TrialState.COMPLETE.name]
    return {run.tags["config_hash"]: run for run in reversed(finished)}  # the newest comes last and stays


def _train(store: TrackingStore, name: str, parent_id: str, chosen: dict[str, RungCandidate]) -> list[Rung]:
    """All rungs below the winner, after training those that are not recorded yet."""
    known = _recorded(store, name)
    for rung, candidate in chosen.items():
        if candidate.config_hash not in known:
            open_run(candidate.cfg, lambda: store, rung=RungPlace(name, rung, parent_id)).train_and_end()
    runs = _recorded(store, name)
    return [Rung(rung, candidate.chosen, runs[candidate.config_hash]) for rung, candidate in chosen.items()]


def _winner(store: TrackingStore, name: str) -> tuple[Rung, str]:
    """The study's winner as the last rung, and a sentence about its confirmation."""
    study = read_study(store, name)
    winner = study.winner
    assert winner is not None  # the study raises AllTrialsFailed if it has none
    rung = Rung("winner", f"trial {winner.trial} of {len(study.trials)}", winner)
    if not study.confirmations:
        return rung, "The winner was not confirmed with fresh seeds."
    best = study.confirmations[0]
    return rung, f"With fresh seeds, the winner's mean is {best.mean:.4f} (standard deviation {best.sd:.4f})."


def tabulate(store: TrackingStore, rungs: Sequence[Rung], items: Items) -> pd.DataFrame:
    """A row for each rung: its dev loss and the difference from the row before, with intervals, and an invented word.

    Losses are in nats per character, intervals are 95 % over dev words, train_seconds are seconds.
    """
    runs = [rung.run for rung in rungs]
    losses, terms = dev_losses(store, runs, dataset_digest(items, "dev"), lambda: items.split.dev)
    differences = [None, *means(losses.diff(dim=1), terms)] if len(rungs) > 1 else [None]
    rows = []
    for rung, loss, difference in zip(rungs, means(losses, terms), differences, strict=True):
        row: dict[str, Any] = {"rung": rung.name, "chosen": rung.chosen}
        row |= dict(zip(_LOSS, astuple(loss), strict=True))
        row |= dict(zip(DIFFERENCE, astuple(difference) if difference else [math.nan] * 3, strict=True))
        row |= {key: rung.run.metrics.get(key, math.nan) for key in ("parameters", "train_seconds")}
        rows.append({**row, "invented": _invented(store, rung.run.run_id, items), "run_id": rung.run.run_id})
    return pd.DataFrame(rows)


def _invented(store: TrackingStore, run_id: str, items: Items) -> str:
    """The first of a run's samples that is not a training word."""
    words = fetch_artifact(store, run_id, "samples.txt").read_text(encoding="utf-8").splitlines()
    known = set(items.split.train)
    word = next((word for word in words if word not in known), words[0])
    return word if len(word) <= _MOST_LETTERS else f"{word[:_MOST_LETTERS]}…"


def _record(run: TrackedRun, table: pd.DataFrame, remarks: list[str], picture: str | None) -> None:
    """Save the table and the picture with the ladder's run."""
    figure = draw(table)
    shown = "\n\n".join([to_markdown(formatted(table.drop(columns="run_id"))), *remarks])
    run.log_metrics({"dev_loss": table["dev_loss"].iloc[-1]})
    run.describe(shown)
    with run.artifacts() as folder:
        (folder / "ladder.csv").write_text(to_csv(table) + "\n", encoding="utf-8")
        (folder / "ladder.md").write_text(shown + "\n", encoding="utf-8")
        figure.savefig(folder / "ladder.png", dpi=100)
    if picture is not None:
        figure.savefig(picture, dpi=100)


def draw(table: pd.DataFrame) -> Figure:
    """A picture of the dev losses, from the first rung at the bottom to the winner, with each step's difference."""
    rungs = list(range(len(table)))
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(table)))
    axes = figure.add_axes((0.27, 0.14, 0.70, 0.80))
    loss, low, high = (table[key] for key in _LOSS)
    axes.step(loss, rungs, where="post", color="0.8", linewidth=1, zorder=1)
    axes.errorbar(loss, rungs, xerr=[loss - low, high - loss], fmt="o", color="tab:blue", markersize=5, capsize=3)
    rows = [dict(row) for _, row in table.iterrows()]
    for rung, row in zip(rungs, rows, strict=True):
        step = "" if math.isnan(row["difference"]) else f" ({row['difference']:+.3f})"
        label = f"{row['dev_loss']:.3f}{step}"
        if font := find_font(f"{label}  {row['invented']}"):  # a word that no font has is in the table only
            label += f"  {row['invented']}"
        place = (row["dev_loss"], rung)
        axes.annotate(label, place, (8, 4), textcoords="offset points", parse_math=False, fontproperties=font)
    axes.set_yticks(rungs, [f"{row['rung'].replace('_', ' ')}\n{row['chosen']}".strip() for row in rows])
    room = 0.25 * (loss.max() - loss.min())  # for the label beside the first rung
    axes.set(xlabel="dev loss, nats per character", xlim=(None, high.max() + room))
    return figure
