"""From guessing to a sweep's winner on one list of words: what does each rung buy?"""

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
from sweeps.errors import RequestError
from sweeps.reports.paired import dev_losses, means
from sweeps.reports.studies import read_study
from sweeps.reports.tables import DIFFERENCE, formatted, to_csv, to_json, to_markdown, to_text
from sweeps.study.runs import RungOf, open_run
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
_LETTERS = 20  # of an invented word: guessing hardly ever ends one


@dataclass(frozen=True)
class RungsConfig:
    """What stands below the winner, and a file for the picture."""

    rungs: dict[str, Any]  # name -> a `model` node; of a list, the value with the lowest dev loss is taken
    smoothing: list[Any]
    discount: list[Any]
    picture: str | None

    def __post_init__(self) -> None:
        if not self.rungs or not all(isinstance(model, dict) for model in self.rungs.values()):
            raise LimitError("rungs", self.rungs, "models by name, as in conf/ladder.yaml")
        check_output("picture", self.picture, ".png")


@dataclass(frozen=True)
class LadderConfig:
    """The rungs, and how the table is printed."""

    ladder: RungsConfig
    format: str

    def __post_init__(self) -> None:
        if self.format not in _RENDERERS:
            raise LimitError("format", self.format, " or ".join(_RENDERERS))


@dataclass(frozen=True)
class Candidate:
    """A run that may stand for a rung, and the values of the rung's lists that it has."""

    cfg: DictConfig
    chosen: str

    @property
    def config_hash(self) -> str:
        """Identity of the run."""
        return read_run_config(self.cfg).digest()


@dataclass(frozen=True)
class Rung:
    """A rung of the ladder, and the run that stands for it."""

    name: str
    chosen: str  # the values that were chosen by dev loss
    run: RunRecord


def ladder(cfg: DictConfig) -> str:
    """What `makemore ladder` prints: a line a rung; the picture is drawn, and all of it is recorded.

    The study comes first: it refuses what cannot be before anything is written. Rungs that are recorded already are
    not trained again.

    Raises:
        RequestError: a value that is not possible; nothing was started.
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
        chosen = {rung: _choose(some) for rung, some in candidates.items()}
        winner, of_winner = _winner(store, name)
        table = tabulate(store, [*_train(store, name, parent.run_id, chosen), winner], items)
        remarks = [
            f"Dev losses in nats per character, {items.split.rule} split of {items.name}; difference: to the rung "
            f"before, word by word; low and high: 95 % intervals over {len(items.split.dev)} dev words.",
            "What stands under chosen was chosen by these dev losses, which flatters them a little, the winner's most. "
            + of_winner,
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
    return "\n".join([text, "", *remarks, picture])


def _candidates(cfg: DictConfig, rung: str, model: dict[str, Any]) -> list[Candidate]:
    """One for each combination of the values in a rung's lists."""
    lists = {key: value for key, value in model.items() if isinstance(value, list)}
    if empty := [key for key, value in lists.items() if not value]:
        raise RequestError(f"ladder.rungs.{rung}.{empty[0]} is []; it must be one value, or a list of them for n-grams")
    found = []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        one = copy.deepcopy(cfg)
        one.model = {**model, **chosen}
        try:
            task = read_run_config(one).task
        except RequestError as error:
            raise RequestError(f"ladder.rungs.{rung}: {error}") from None
        if not isinstance(task, LanguageModel):
            raise RequestError("task must be language_model: the rungs of a ladder are language models")
        if lists and not task.model.counted:
            key, value = next(iter(lists.items()))
            raise RequestError(
                f"ladder.rungs.{rung}.{key} is {value}; it must be one value; n-grams alone may have a list of them"
            )
        found.append(Candidate(one, " ".join(f"{key}={value}" for key, value in chosen.items())))
    return found


def _run_study() -> None:
    """The study of this command's config, as `makemore sweep` runs it; what that prints goes to standard error."""
    overrides = HydraConfig.get().overrides
    given = [line for line in overrides.hydra if not line.startswith("hydra.mode=")]
    with redirect_stdout(sys.stderr):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None  # it runs this command
        hydra.multirun(
            "ladder", task_function=lambda cfg: None, overrides=[*given, *overrides.task], with_log_configuration=False
        )


def _counted_loss(cfg: DictConfig) -> float:
    """The dev loss of a counted model, which is infinite where it finds a character impossible."""
    config = read_run_config(cfg)
    split = config.deal_items().split
    with one_thread():
        try:
            trained = config.task.train(split.train, split.dev, config.seed, lambda step, dev_loss, **metrics: None)
        except Diverged:
            return math.inf
        losses, terms = config.task.losses(trained, split.dev)
        return float(losses.sum() / terms.sum())


def _choose(candidates: list[Candidate]) -> Candidate:
    """The one with the lowest dev loss; of equal ones, the first."""
    return candidates[0] if len(candidates) == 1 else min(candidates, key=lambda one: _counted_loss(one.cfg))


def _recorded(store: TrackingStore, name: str) -> dict[str, RunRecord]:
    """The finished runs of a ladder's rungs, by config hash: equal configs are trained once."""
    finished = [run for run in ladder_rungs(store, name) if run.state == TrialState.COMPLETE.name]
    return {run.tags["config_hash"]: run for run in reversed(finished)}  # the newest of each


def _train(store: TrackingStore, name: str, parent_id: str, chosen: dict[str, Candidate]) -> list[Rung]:
    """All rungs, after training those that are not recorded yet."""
    known = _recorded(store, name)
    for rung, candidate in chosen.items():
        if candidate.config_hash not in known:
            open_run(candidate.cfg, lambda: store, rung=RungOf(name, rung, parent_id)).train_and_end()
    runs = _recorded(store, name)
    return [Rung(rung, candidate.chosen, runs[candidate.config_hash]) for rung, candidate in chosen.items()]


def _winner(store: TrackingStore, name: str) -> tuple[Rung, str]:
    """The study's winner as the last rung, and a sentence about its confirmation."""
    study = read_study(store, name)
    winner = study.winner
    assert winner is not None  # the study would have raised
    rung = Rung("winner", f"trial {winner.trial} of {len(study.trials)}", winner)
    if not study.confirmations:
        return rung, "The winner was not confirmed with fresh seeds."
    best = study.confirmations[0]
    return rung, f"Over fresh seeds, the winner's mean is {best.mean:.4f} (standard deviation {best.sd:.4f})."


def tabulate(store: TrackingStore, rungs: Sequence[Rung], items: Items) -> pd.DataFrame:
    """One row per rung: its dev loss and the difference to the row before, with intervals, and an invented word."""
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
    """The first of a run's samples that train does not have."""
    words = fetch_artifact(store, run_id, "samples.txt").read_text(encoding="utf-8").splitlines()
    known = set(items.split.train)
    word = next((word for word in words if word not in known), words[0])
    return word if len(word) <= _LETTERS else f"{word[:_LETTERS]}…"


def _record(run: TrackedRun, table: pd.DataFrame, remarks: list[str], picture: str | None) -> None:
    """Keep table and picture with the ladder's run."""
    figure = draw(table)
    shown = "\n\n".join([to_markdown(formatted(table.drop(columns="run_id"))), *remarks])
    run.log_metrics({"dev_loss": table["dev_loss"].iloc[-1]})
    run.log_tags({"mlflow.note.content": shown})  # the UI's description of a run
    with run.artifacts() as folder:
        (folder / "ladder.csv").write_text(to_csv(table) + "\n", encoding="utf-8")
        (folder / "ladder.md").write_text(shown + "\n", encoding="utf-8")
        figure.savefig(folder / "ladder.png", dpi=100)
    if picture is not None:
        figure.savefig(picture, dpi=100)


def draw(table: pd.DataFrame) -> Figure:
    """Dev losses from the first rung at the bottom to the winner at the top, and what each step bought."""
    rungs = list(range(len(table)))
    figure = Figure(figsize=(9, 1.2 + 0.45 * len(table)))
    axes = figure.add_axes((0.27, 0.14, 0.70, 0.80))
    loss, low, high = (table[key] for key in _LOSS)
    axes.step(loss, rungs, where="post", color="0.8", linewidth=1, zorder=1)
    axes.errorbar(loss, rungs, xerr=[loss - low, high - loss], fmt="o", color="tab:blue", markersize=5, capsize=3)
    rows = [dict(row) for _, row in table.iterrows()]
    for rung, row in zip(rungs, rows, strict=True):
        step = "" if math.isnan(row["difference"]) else f" ({row['difference']:+.3f})"
        label = f"{row['dev_loss']:.3f}{step}  {row['invented']}"
        axes.annotate(label, (row["dev_loss"], rung), (8, 4), textcoords="offset points", parse_math=False)
    axes.set_yticks(rungs, [f"{row['rung'].replace('_', ' ')}\n{row['chosen']}".strip() for row in rows])
    room = 0.25 * (loss.max() - loss.min())  # for what stands beside the first rung
    axes.set(xlabel="dev loss, nats per character", xlim=(None, high.max() + room))
    return figure
