"""One tracked training run: from a composed config to a dev loss, with everything worth keeping in MLflow."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from optuna import TrialPruned

from makemore.sample import sample_words
from makemore.train import Diverged, Evaluation, TrainResult, generator_for, one_thread, train
from sweeps.config import RunConfig, read_run_config
from sweeps.errors import RequestError
from sweeps.records import hide_password
from sweeps.sources import Source, load_corpus, load_source
from sweeps.tracking import TrackedRun, open_tracking
from sweeps.weights import save_weights

_SAMPLES = 20
_REASON = 500  # characters


@dataclass(frozen=True)
class TrialOf:
    """Which trial of which study a run is."""

    study: str
    number: int
    parent_id: str
    searched: tuple[str, ...]  # the keys that vary, for the run's name


@dataclass(frozen=True)
class RunOutcome:
    """What a finished run leaves for its study."""

    dev_loss: float
    run_id: str
    config_hash: str
    weights_digest: str
    result: TrainResult


def run_training(
    cfg: DictConfig,
    trial: TrialOf | None = None,
    report: Callable[[int, float], None] = lambda step, dev_loss: None,
) -> RunOutcome:
    """Train what `cfg` says and record it as one MLflow run.

    Raises:
        RequestError: the config asks for what cannot be; only a trial is recorded, as failed.
        Exception: training failed, diverged or was pruned; the run is recorded as such, with its curve so far.
    """
    tags = {"study": trial.study, "trial_number": str(trial.number)} if trial else {}
    params = {"trial_number": trial.number} if trial else {}
    kind, parent_id = ("trial", trial.parent_id) if trial else ("train", None)
    try:
        config = read_run_config(cfg)
        source = load_source(config.data)
        corpus = load_corpus(config.data, config.model.block_size)
    except RequestError as error:
        if trial:  # a combination that the corners of the space did not show: the study records it as failed
            run = open_tracking(cfg).start_run(f"#{trial.number:03d}", kind, params, tags, parent_id=parent_id)
            run.end("FAILED", {"reason": str(error)[:_REASON], **_state(trial, "FAIL")})
        raise
    params |= config.params()
    tags |= {"config_hash": config.digest(), "group_hash": config.digest(without=("seed",))}
    run = open_tracking(cfg).start_run(run_name(params, trial), kind, params, tags, source, parent_id)
    curve: list[Evaluation] = []

    def track(step: int, dev_loss: float) -> None:
        point = curve[-1]
        run.log_metrics({"train_loss": point.train_loss, "dev_loss": dev_loss, "lr": point.lr}, step)
        report(step, dev_loss)

    try:
        result = train(
            corpus,
            config.model,
            config.optimizer,
            config.schedule,
            config.train,
            config.seed,
            config.device,
            track,
            curve,
        )
        weights_digest = _keep(run, cfg, config, source, result, curve)
    except BaseException as error:
        status, state = _how_it_ended(error, trial)
        run.end(status, {"reason": f"{type(error).__name__}: {error}"[:_REASON], **_state(trial, state)})
        raise
    run.end("FINISHED", {"weights_digest": weights_digest, **_state(trial, "COMPLETE")})
    return RunOutcome(result.best_dev_loss, run.run_id, tags["config_hash"], weights_digest, result)


def run_name(params: Mapping[str, object], trial: TrialOf | None) -> str:
    """A name that tells runs apart: what varies in the study, or the shape of a single run's model."""
    keys = trial.searched if trial else ("model.block_size", "model.embedding_size", "model.hidden_neurons", "seed")
    values = (f"{params[key]:.3g}" if isinstance(params[key], float) else str(params[key]) for key in keys)
    words = [f"{key.rpartition('.')[2]}={value}" for key, value in zip(keys, values, strict=True)]
    return " ".join([f"#{trial.number:03d}" if trial else str(params["model"]), *words])


def _how_it_ended(error: BaseException, trial: TrialOf | None) -> tuple[str, str]:
    """MLflow's status and Optuna's state of a run that `error` ended."""
    if isinstance(error, TrialPruned) or (trial is not None and isinstance(error, Diverged)):
        return "KILLED", "PRUNED"
    interrupted = trial is None and isinstance(error, KeyboardInterrupt)
    return ("KILLED" if interrupted else "FAILED"), "FAIL"


def _state(trial: TrialOf | None, state: str) -> dict[str, str]:
    return {"trial_state": state} if trial else {}


def _keep(
    run: TrackedRun, cfg: DictConfig, config: RunConfig, source: Source, result: TrainResult, curve: list[Evaluation]
) -> str:
    """Log a finished run's figures and files; returns the digest of its weights."""
    run.log_metrics(
        {
            "best_dev_loss": result.best_dev_loss,
            "best_step": result.best_step,
            "train_seconds": result.train_seconds,
            "evaluation_seconds": result.evaluation_seconds,
            "steps_per_second": result.steps_per_second,
            "parameters": result.parameters,
        },
        step=config.train.steps,
    )
    with tempfile.TemporaryDirectory(prefix="makemore-") as name:
        folder = Path(name)
        resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        resolved.data.path = config.data.path and str(source.path)  # means the same from another folder
        resolved.study.storage = hide_password(resolved.study.storage)
        resolved.tracking.uri = hide_password(resolved.tracking.uri)
        OmegaConf.save(resolved, folder / "config.yaml")
        weights_digest = save_weights(folder / "weights.safetensors", result.model, source)
        generator = generator_for(config.seed, "samples")
        with one_thread():
            words = sample_words(result.model, source.alphabet, config.model.block_size, _SAMPLES, generator)
        (folder / "samples.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        _draw_curve(curve, folder / "loss_curve.png")
        run.log_artifacts(folder)
    return weights_digest


def _draw_curve(curve: list[Evaluation], path: Path) -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.add_axes((0.12, 0.12, 0.85, 0.85))  # a layout engine would take as long as the drawing
    steps = [point.step for point in curve]
    axes.plot(steps, [point.train_loss for point in curve], marker=".", label="train (minibatches)")
    axes.plot(steps, [point.dev_loss for point in curve], marker=".", label="dev")
    axes.set(xlabel="step", ylabel="loss, nats per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=80)
