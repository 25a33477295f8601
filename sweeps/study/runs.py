"""One tracked training run: from a composed config to a dev loss, with its results recorded in MLflow."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from makemore.train import Diverged, one_thread
from sweeps.config.files import write_yaml
from sweeps.config.messages import reason
from sweeps.errors import RequestError
from sweeps.study.checkpoints import Checkpoints
from sweeps.task.item_losses import DEV_LOSSES, write_item_losses
from sweeps.task.items import Items, units_of
from sweeps.task.run_config import RunConfig, read_run_config
from sweeps.task.task import Description, State, Trained
from sweeps.tracking.runs import TrackedRun, start_run
from sweeps.tracking.store import TrackingStore

_MOST_TAG = 500  # characters of a tag's value; longer values are cut
_MOST_VALUE = 30  # characters of a value in a run's name
_SHAPE = ("model.block_size", "model.embedding_size", "model.hidden_neurons", "model.order", "model.estimator", "seed")


@dataclass(frozen=True)
class TrialPlace:
    """The study and the trial that a run belongs to."""

    study: str
    number: int
    parent_id: str
    searched: tuple[str, ...]  # the keys that the study searches, for the run's name
    confirm_number: int | None = None  # given if the run confirms the trial with a fresh seed
    warm_start: str | None = None  # the name of the trial's setting in space.warm_start, if it is from there
    seeds: tuple[int, ...] = ()  # the trial's, if it has several
    seed: int | None = None  # given if the run trains the trial's setting with this one of its seeds

    @property
    def kind(self) -> str:
        """The kind of the run: "trial", "seed" or "confirm"."""
        if self.seed is not None:
            return "seed"
        return "trial" if self.confirm_number is None else "confirm"

    @property
    def subdir(self) -> str | None:
        """The run's folder, or None for the folder that hydra.sweep.subdir gives."""
        return None if self.confirm_number is None else f"confirm/{self.confirm_number}"

    @property
    def tags(self) -> dict[str, str]:
        """Tags in MLflow that tell the run's study and trial."""
        tags = {"study": self.study, "trial_number": str(self.number)}
        tags |= {"warm_start": self.warm_start} if self.warm_start else {}
        tags |= {"seeds": ", ".join(map(str, self.seeds))} if self.seeds else {}
        return tags if self.confirm_number is None else {**tags, "confirm_number": str(self.confirm_number)}


@dataclass(frozen=True)
class RungPlace:
    """The ladder and the rung that a run belongs to."""

    ladder: str
    name: str
    parent_id: str
    kind: str = "train"

    @property
    def tags(self) -> dict[str, str]:
        """Tags in MLflow that tell the run's ladder and rung."""
        return {"ladder": self.ladder, "rung": self.name}


@dataclass(frozen=True)
class RunOutcome:
    """The results of a finished run that its study needs."""

    dev_loss: float  # in the task's unit; of a trial with several seeds, their mean
    weights_dev_loss: float  # of the weights that were kept
    weights_digest: str
    description: Description


@dataclass(frozen=True)
class Fit:
    """What training left."""

    run: "OpenRun"
    trained: Trained
    curve: Sequence[Mapping[str, float]]  # what was reported: for each evaluation its step, dev_loss and so on
    losses: Tensor  # (n,) float64, the sum of losses of each dev item
    terms: Tensor  # (n,) float64
    description: Description
    train_seconds: float
    evaluation_seconds: float

    @property
    def dev_loss(self) -> float:
        """The mean over all terms, in the task's unit."""
        return float(self.losses.sum() / self.terms.sum())


@dataclass(frozen=True)
class Reporting:
    """The report that a task is given."""

    track: Callable[[int, float, Callable[[], State] | None, Mapping[str, float]], None]
    resumed_state: State | None  # see `sweeps.resumed_state`

    def __call__(
        self, step: int, dev_loss: float, *, state: Callable[[], State] | None = None, **metrics: float
    ) -> None:
        """Record an evaluation."""
        self.track(step, dev_loss, state, metrics)


@dataclass(frozen=True)
class OpenRun:
    """A run that is recorded as RUNNING."""

    cfg: DictConfig
    config: RunConfig
    items: Items
    tracked: TrackedRun
    draws: bool  # whether to draw the run's pictures

    def train(
        self,
        report: Callable[[int, float], None] = lambda step, dev_loss: None,
        checkpoints: Checkpoints | None = None,
    ) -> RunOutcome:
        """The outcome of training; everything is recorded except how the run ended; see `fit`."""
        return self.keep(self.fit(report, checkpoints))

    def fit(self, report: Callable[[int, float], None], checkpoints: Checkpoints | None = None) -> Fit:
        """Train, and evaluate the trained model; only the curve is recorded.

        Args:
            report: called with the step and the dev loss of each evaluation; what it raises ends the run.
            checkpoints: where training may go on, and where it keeps how far it is.

        Raises:
            Diverged: a dev loss is NaN or infinite.
            Exception: training failed, or `report` ended it; the curve so far is recorded too.
        """
        curve: list[Mapping[str, float]] = []
        reporting = 0.0
        identity, seed = self._identity(), self.config.seed
        resumed = checkpoints.find(seed, identity) if checkpoints else None
        before = resumed.seconds if resumed else 0.0

        def track(step: int, dev_loss: float, state: Callable[[], State] | None, metrics: Mapping[str, float]) -> None:
            nonlocal reporting
            entered = time.perf_counter()
            if not math.isfinite(dev_loss):
                raise Diverged(f"the dev loss is {dev_loss} at step {step}")
            note({"step": step, "dev_loss": dev_loss, **metrics})
            if checkpoints and state is not None and checkpoints.is_due(last=len(curve) == task.evaluations):
                trained_for = before + entered - started - reporting
                checkpoints.write(self.tracked, seed, identity, curve, trained_for, state())
            reporting += time.perf_counter() - entered

        def note(point: Mapping[str, float]) -> None:
            step = int(point["step"])
            curve.append(point)
            self.tracked.log_metrics({key: value for key, value in point.items() if key != "step"}, step)
            if checkpoints:
                checkpoints.note_evaluation()
            report(step, point["dev_loss"])

        split, task = self.items.split, self.config.task
        try:
            if resumed is not None:
                self.tracked.log_tags({"resumed_from": resumed.run_id, "resumed_at_step": str(resumed.step)})
                for point in resumed.curve:
                    note(point)
            started = time.perf_counter()
            with self.tracked.watched():
                trained = task.train(split.train, split.dev, seed, Reporting(track, resumed.state if resumed else None))
            seconds = before + time.perf_counter() - started - reporting
            if not isinstance(trained, Trained):
                raise TypeError(
                    f"{type(task).__name__}.train returned {type(trained).__name__}; it must return Trained"
                )
            with one_thread():
                return self._evaluate(trained, curve, seconds)
        except BaseException:
            if curve:
                self.tracked.log_metrics({"steps": curve[-1]["step"]}, int(curve[-1]["step"]))
            raise

    def _identity(self) -> str:
        """What decides the weights: a checkpoint of another identity is not gone on from."""
        split = self.items.split
        return " ".join([self.config.digest(), split.fingerprint("train"), split.fingerprint("dev")])

    def train_and_end(self) -> RunOutcome:
        """The outcome of training; everything is recorded, including how the run ended.

        Raises:
            Exception: training failed or diverged; the run is recorded as failed, with its curve so far.
        """
        try:
            outcome = self.train()
            self.record({"weights_digest": outcome.weights_digest})
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self.end(status, {"reason": reason(error)})
            raise
        self.end("FINISHED")
        return outcome

    def _evaluate(self, trained: Trained, curve: Sequence[Mapping[str, float]], seconds: float) -> Fit:
        started = time.perf_counter()
        losses, terms = item_losses(self.config.task, trained, self.items.split.dev)
        evaluation_seconds = time.perf_counter() - started
        description = self.config.task.describe(trained, float(losses.sum() / terms.sum()), self.config.seed)
        return Fit(self, trained, curve, losses, terms, description, seconds, evaluation_seconds)

    def keep(
        self, fit: Fit, weights_dev_loss: float | None = None, metrics: Mapping[str, float] | None = None
    ) -> RunOutcome:
        """The outcome of a finished run, after recording its metrics, files and description.

        Args:
            weights_dev_loss: of the weights alone, where the losses are means over several seeds.
            metrics: more of them.
        """
        task, run, trained, description = self.config.task, self.tracked, fit.trained, fit.description
        steps = int(fit.curve[-1]["step"]) if fit.curve else 0
        all_metrics: dict[str, float] = {
            "train_seconds": fit.train_seconds,
            "evaluation_seconds": fit.evaluation_seconds,
            "steps_per_second": steps / fit.train_seconds,
            "parameters": sum(parameter.numel() for parameter in trained.module.parameters()),
            **trained.metrics,
            **description.metrics,
            **(metrics or {}),
            "best_dev_loss": fit.dev_loss,
            "steps": steps,
        }
        run.log_metrics(all_metrics, step=steps)
        note = description.note or (
            f"Dev loss **{fit.dev_loss:.4f}** ({task.unit}); {all_metrics['parameters']:.0f} weights, "
            f"{all_metrics['train_seconds']:.1f} s of training."
        )
        run.log_tags({**description.tags, "mlflow.note.content": note})  # the UI's description of a run
        with run.artifacts() as folder:
            self._write_config(folder / "config.yaml")
            fingerprint = self.items.split.fingerprint("train")
            weights_digest = task.save(trained, folder / "weights.safetensors", fingerprint)
            write_item_losses(folder / DEV_LOSSES, fit.losses, fit.terms, units_of(task, self.items.split.dev))
            for name, text in description.files.items():
                (folder / name).write_text(text, encoding="utf-8")
            if self.draws:
                task.draw(trained, fit.curve, folder)
        weights_dev_loss = fit.dev_loss if weights_dev_loss is None else weights_dev_loss
        return RunOutcome(fit.dev_loss, weights_dev_loss, weights_digest, description)

    def _write_config(self, path: Path) -> None:
        """Write the whole resolved config, with absolute paths."""
        resolved: Any = OmegaConf.to_container(self.cfg, resolve=True)
        resolved.pop("hooks", None)  # nothing of the run, and a webhook may be a secret
        if self.items.path is not None and resolved["data"]["path"]:
            resolved["data"]["path"] = str(self.items.path)
        write_yaml(path, resolved)

    def record(self, tags: Mapping[str, str]) -> None:
        """Send tags and everything that waits to be sent: a process that dies afterwards loses only the status."""
        self.tracked.log_tags(_cut(tags))
        self.tracked.flush()

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Send tags and everything that waits to be sent, and end the run as FINISHED, FAILED or KILLED."""
        self.tracked.end(status, _cut(tags or {}))


def item_losses(task: Any, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Each item's sum of losses and number of terms, as the task gives them, checked; both (n,) float64 on the CPU.

    Raises:
        ValueError: the task did not return two tensors with a number for each item, or there are no terms.
        Diverged: a loss is NaN or infinite.
    """
    name = type(task).__name__
    with torch.no_grad():
        answer = task.losses(trained, items)
    wanted = (
        f"it must return two tensors of {len(items)} numbers: the sum of losses and the number of terms for each item"
    )
    if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(part, Tensor) for part in answer)):
        raise ValueError(f"{name}.losses returned {type(answer).__name__}; {wanted}")
    losses, terms = (part.detach().cpu().double() for part in answer)
    if losses.shape != (len(items),) or terms.shape != (len(items),):
        raise ValueError(f"{name}.losses returned shapes {tuple(losses.shape)} and {tuple(terms.shape)}; {wanted}")
    if not terms.sum() > 0:
        raise ValueError(f"{name}.losses returned no terms; {wanted}")
    if not torch.isfinite(losses).all():
        raise Diverged("a dev loss of the trained model is NaN or infinite")
    return losses, terms


def open_run(
    cfg: DictConfig,
    open_store: Callable[[], TrackingStore],
    trial: TrialPlace | None = None,
    rung: RungPlace | None = None,
    given: Sequence[str] = (),
) -> OpenRun:
    """The run that `cfg` asks for, recorded as RUNNING.

    Args:
        open_store: called after everything else is checked, because it may create the database.
        given: the keys that the user gave for a single run, which its name begins with.

    Raises:
        RequestError: the request is wrong; a trial is recorded as failed, any other run is not recorded.
    """
    place = trial or rung
    kind, parent_id, tags = (place.kind, place.parent_id, place.tags) if place else ("train", None, {})
    params: dict[str, Any] = {"trial_number": trial.number} if trial else {}
    try:
        config = read_run_config(cfg)
        config.check()
        items = config.deal_items()
    except RequestError as error:
        if trial:  # only this combination of values is wrong, none at the corners of the space is
            run = start_run(open_store(), f"#{trial.number:03d}", kind, params, tags, parent_id=parent_id)
            run.end("FAILED", _cut({"reason": str(error), "trial_state": "FAIL"}))
        raise
    params |= {"task": config.task_name, **config.params()}
    if "seeds" in tags:
        params["seed"] = tags["seeds"]
    tags |= {"config_hash": config.digest(tags.get("seeds")), "group_hash": config.digest(without=("seed",))}
    name = rung.name if rung else run_name(params, trial, given)
    tracked = start_run(open_store(), name, kind, params, tags, items, parent_id)
    return OpenRun(cfg, config, items, tracked, draws=trial is None)


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:_MOST_TAG] for key, value in tags.items()}


def run_name(params: Mapping[str, object], trial: TrialPlace | None, given: Sequence[str] = ()) -> str:
    """A name that tells runs apart: what the study searches, or what was given for a single run and its model's shape.

    What tells most comes first, because the UI cuts names.
    """
    if trial:
        first, keys = f"#{trial.number:03d}", list(trial.searched)
        first += f" seed={params['seed']}" if trial.kind != "trial" else ""
    else:
        shape = _SHAPE if "model" in params else tuple(key for key in params if key.startswith("task."))
        first = str(params.get("model", params.get("task")))
        keys = [key for key in dict.fromkeys([*given, *shape]) if key not in ("model", "task")]
    words = [f"{key.rpartition('.')[2]}={_short(params[key])}" for key in keys if key in params]
    return " ".join([first, *words])


def _short(value: object) -> str:
    """A value in a run's name: of a long one, such as a path, the end."""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _MOST_VALUE else f"…{text[-_MOST_VALUE:]}"
