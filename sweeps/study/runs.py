"""One tracked training run: from a composed config to a dev loss, with everything worth keeping in MLflow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from makemore.diagnosis import Finding, Signs, diagnose, examine
from makemore.model import MLP
from makemore.ngram import NgramConfig
from makemore.sample import sample_words
from makemore.train import Corpus, Evaluation, TrainResult, count_ngrams, generator_for, one_thread, train
from sweeps.config.reading import RunConfig, read_run_config, write_yaml
from sweeps.databases import hide_password
from sweeps.errors import RequestError
from sweeps.task.language_model.pictures import draw_curve, draw_embedding
from sweeps.task.language_model.sources import Source, load_corpus, load_source
from sweeps.task.language_model.weights import save_weights
from sweeps.tracking.runs import TrackedRun, start_run
from sweeps.tracking.store import TrackingStore, open_tracking

_SAMPLES = 20
_TAG = 500  # characters
_SHAPE = ("model.block_size", "model.embedding_size", "model.hidden_neurons", "model.order", "model.estimator", "seed")


@dataclass(frozen=True)
class TrialOf:
    """Which trial of which study a run is."""

    study: str
    number: int
    parent_id: str
    searched: tuple[str, ...]  # the keys that vary, for the run's name
    confirm_number: int | None = None  # of a run that confirms the trial with a fresh seed
    warm_start: str | None = None  # the name of the setting that was tried first, if it is one

    @property
    def kind(self) -> str:
        """Of the run."""
        return "trial" if self.confirm_number is None else "confirm"

    @property
    def subdir(self) -> str | None:
        """Of the run's folder, where it is not hydra.sweep.subdir."""
        return None if self.confirm_number is None else f"confirm/{self.confirm_number}"

    @property
    def tags(self) -> dict[str, str]:
        """Of the run."""
        tags = {"study": self.study, "trial_number": str(self.number)}
        tags |= {"warm_start": self.warm_start} if self.warm_start else {}
        return tags if self.confirm_number is None else {**tags, "confirm_number": str(self.confirm_number)}


@dataclass(frozen=True)
class RungOf:
    """Which rung of which ladder a run is."""

    ladder: str
    name: str
    parent_id: str
    kind: str = "train"

    @property
    def tags(self) -> dict[str, str]:
        """Of the run."""
        return {"ladder": self.ladder, "rung": self.name}


@dataclass(frozen=True)
class RunOutcome:
    """What a finished run leaves for its study."""

    dev_loss: float
    weights_digest: str
    result: TrainResult
    findings: list[Finding]


@dataclass(frozen=True)
class OpenRun:
    """A run that is recorded as RUNNING."""

    cfg: DictConfig
    config: RunConfig
    source: Source
    corpus: Corpus
    tracked: TrackedRun

    def train(self, report: Callable[[int, float], None] = lambda step, dev_loss: None) -> RunOutcome:
        """Train, or count, and keep all for the record but how it ended.

        Raises:
            Exception: training failed, diverged, or was ended by `report`; the curve so far is kept, too.
        """
        curve: list[Evaluation] = []

        def track(step: int, dev_loss: float) -> None:
            point = curve[-1]
            lr = {} if point.lr is None else {"lr": point.lr}
            self.tracked.log_metrics({"train_loss": point.train_loss, "dev_loss": dev_loss, **lr}, step)
            report(step, dev_loss)

        config = self.config
        try:
            if isinstance(config.model, NgramConfig):
                result = count_ngrams(self.corpus, config.model, track, curve)
            else:
                result = train(
                    self.corpus,
                    config.model,
                    config.optimizer,
                    config.schedule,
                    config.train,
                    config.seed,
                    config.device,
                    track,
                    curve,
                )
            with one_thread():
                return self._keep(result, curve)
        except BaseException:
            if curve:  # what it came to
                self.tracked.log_metrics({"steps": curve[-1].step}, curve[-1].step)
            raise

    def train_and_end(self) -> RunOutcome:
        """Train, or count, and record all, how it ended too.

        Raises:
            Exception: training failed or diverged; the run is recorded as such, with its curve so far.
        """
        try:
            outcome = self.train()
            self.record({"weights_digest": outcome.weights_digest})
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self.end(status, {"reason": f"{type(error).__name__}: {error}"})
            raise
        self.end("FINISHED")
        return outcome

    def _keep(self, result: TrainResult, curve: list[Evaluation]) -> RunOutcome:
        """Record a finished run's figures, files and diagnosis."""
        config, source, run = self.config, self.source, self.tracked
        signs = examine(result.model, self.corpus, result.best_dev_loss)
        run.log_metrics(
            {
                "best_dev_loss": result.best_dev_loss,
                "best_train_loss": signs.train_loss,
                "gap": signs.gap,
                "best_step": result.best_step,
                "steps": curve[-1].step,
                "train_seconds": result.train_seconds,
                "evaluation_seconds": result.evaluation_seconds,
                "steps_per_second": result.steps_per_second,
                "parameters": result.parameters,
            },
            step=curve[-1].step,
        )
        generator = generator_for(config.seed, "samples")
        words = sample_words(result.model, source.alphabet, config.model.block_size, _SAMPLES, generator)
        findings = diagnose(curve, signs)
        run.log_tags(
            {
                "diagnosis": ", ".join(finding.name for finding in findings) or "nothing stands out",
                "mlflow.note.content": _notes(result, signs, findings, words),  # the UI's description of a run
            }
        )
        with run.artifacts() as folder:
            self._write_config(folder / "config.yaml")
            weights_digest = save_weights(folder / "weights.safetensors", result.model, source)
            (folder / "samples.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
            draw_curve(curve, folder / "loss_curve.png")
            if isinstance(result.model, MLP):
                draw_embedding(result.model.C, source.alphabet, folder / "embedding.png")
        return RunOutcome(result.best_dev_loss, weights_digest, result, findings)

    def _write_config(self, path: Path) -> None:
        """The whole resolved config: it means the same from another folder, and tells no password."""
        resolved: Any = OmegaConf.to_container(self.cfg, resolve=True)
        resolved["data"]["path"] = self.config.data.path and str(self.source.path)
        resolved["study"]["storage"] = hide_password(resolved["study"]["storage"])
        resolved["tracking"]["uri"] = hide_password(resolved["tracking"]["uri"])
        write_yaml(path, resolved)

    def record(self, tags: Mapping[str, str]) -> None:
        """Send what is kept, and tags: whoever dies then leaves a whole record, but for its status."""
        self.tracked.log_tags(_cut(tags))
        self.tracked.flush()

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Send what could not be sent before, and tags, and close the record as FINISHED, FAILED or KILLED."""
        self.tracked.end(status, _cut(tags or {}))


def open_run(
    cfg: DictConfig,
    open_store: Callable[[], TrackingStore],
    trial: TrialOf | None = None,
    rung: RungOf | None = None,
) -> OpenRun:
    """Start the record of the run that `cfg` asks for.

    Args:
        open_store: called when all else is known to be right: it may make the records.

    Raises:
        RequestError: the config asks for what cannot be; only a trial is recorded, as failed.
    """
    of = trial or rung
    kind, parent_id, tags = (of.kind, of.parent_id, of.tags) if of else ("train", None, {})
    params: dict[str, Any] = {"trial_number": trial.number} if trial else {}
    try:
        config = read_run_config(cfg)
        source = load_source(config.data)
        corpus = load_corpus(config.data, config.model.block_size)
    except RequestError as error:
        if trial:  # a combination that the corners of the space did not show: the study records it as failed
            run = start_run(open_store(), f"#{trial.number:03d}", kind, params, tags, parent_id=parent_id)
            run.end("FAILED", _cut({"reason": str(error), "trial_state": "FAIL"}))
        raise
    params |= config.params()
    tags |= {"config_hash": config.digest(), "group_hash": config.digest(without=("seed",))}
    name = rung.name if rung else run_name(params, trial)
    tracked = start_run(open_store(), name, kind, params, tags, source, parent_id)
    return OpenRun(cfg, config, source, corpus, tracked)


def run_training(cfg: DictConfig) -> str:
    """Train what `cfg` says and record it as one MLflow run; returns what to say about it.

    Raises:
        RequestError: the config asks for what cannot be; nothing was recorded.
        Exception: training failed or diverged; the run is recorded as such, with its curve so far.
    """
    run = open_run(cfg, lambda: open_tracking(cfg))
    outcome = run.train_and_end()
    result = outcome.result
    if isinstance(run.config.model, NgramConfig):
        how = f"{result.parameters} probabilities counted in {result.train_seconds:.2f} s"
    else:
        how = (
            f"best at step {result.best_step}; {result.parameters} weights, {result.train_seconds:.1f} s at "
            f"{result.steps_per_second:.0f} steps/s"
        )
    lines = [f"dev loss {outcome.dev_loss:.4f} nats per character, {how}; run {run.tracked.run_id}"]
    return "\n".join(lines + [f"{finding.name}: {finding.text}" for finding in outcome.findings])


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value[:_TAG] for key, value in tags.items()}


def run_name(params: Mapping[str, object], trial: TrialOf | None) -> str:
    """A name that tells runs apart: what varies in the study, or the shape of a single run's model."""
    keys = [key for key in (trial.searched if trial else _SHAPE) if key in params]
    values = (f"{params[key]:.3g}" if isinstance(params[key], float) else str(params[key]) for key in keys)
    words = [f"{key.rpartition('.')[2]}={value}" for key, value in zip(keys, values, strict=True)]
    seed = [f"seed={params['seed']}"] if trial and trial.confirm_number is not None else []
    return " ".join([f"#{trial.number:03d}" if trial else str(params["model"]), *seed, *words])


def _notes(result: TrainResult, signs: Signs, findings: list[Finding], words: list[str]) -> str:
    """What a person reads first of a finished run, in Markdown."""
    return "\n".join(
        [
            f"Dev loss **{signs.dev_loss:.4f}**, train {signs.train_loss:.4f} (nats per character); "
            f"{result.parameters} weights, {result.train_seconds:.1f} s of training, best at step {result.best_step}.",
            "",
            *([f"- **{finding.name}**: {finding.text}" for finding in findings] or ["Nothing stands out."]),
            "",
            "New words: " + ", ".join(words[:10]),
        ]
    )
