"""The learning-rate range test as a command: its suggestion, its picture, its record."""

from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig

from makemore.lr_range import LrRange, LrRangeResult, lr_range_test
from makemore.ngram import NgramConfig
from sweeps.config.reading import check_output, read_node, read_run_config
from sweeps.errors import RequestError
from sweeps.study.runs import run_name
from sweeps.task.language_model.sources import load_corpus, load_source
from sweeps.tracking.runs import start_run
from sweeps.tracking.store import open_tracking


@dataclass(frozen=True)
class LrFindConfig:
    """The range, and a file for its picture."""

    low: float
    high: float
    steps: int
    picture: str | None

    def __post_init__(self) -> None:
        LrRange(self.low, self.high, self.steps)
        check_output("picture", self.picture, ".png")


def lr_find(cfg: DictConfig) -> str:
    """What `makemore lr-find` prints: a learning rate, a range for a search, and where the picture is.

    Raises:
        RequestError: the config asks for what cannot be; nothing is recorded.
        NoRange: the loss did not fall.
    """
    run_config = read_run_config(cfg)
    config: LrFindConfig = read_node(LrFindConfig, cfg, "lr_find")
    picture = config.picture
    if isinstance(run_config.model, NgramConfig):
        raise RequestError("model is ngram; it must be mlp: counts have no learning rate to find")
    source = load_source(run_config.data)
    corpus = load_corpus(run_config.data, run_config.model.block_size)
    params = {key: value for key, value in run_config.params().items() if not key.startswith("schedule")}
    params |= {f"lr_find.{key}": value for key, value in asdict(config).items() if key != "picture"}
    name = f"lr-find {run_name(run_config.params(), None)}"
    run = start_run(open_tracking(cfg), name, "lr_find", params, {}, source, parts=("train",))
    try:
        result = lr_range_test(
            corpus,
            run_config.model,
            run_config.optimizer,
            run_config.train,
            LrRange(config.low, config.high, config.steps),
            run_config.seed,
            run_config.device,
        )
        for step, (lr, loss) in enumerate(zip(result.lr, result.smoothed, strict=True), 1):
            run.log_metrics({"lr": lr, "train_loss": loss}, step)
        run.log_metrics({"suggested_lr": result.suggestion})
        with run.artifacts() as folder:
            _draw(result, folder / "lr_find.png")
        if picture is not None:
            _draw(result, Path(picture))
    except BaseException as error:
        run.end("FAILED", {"reason": f"{type(error).__name__}: {error}"})
        raise
    run.end("FINISHED")
    end = f"diverged at {result.lr[-1]:.2g}" if result.diverged else f"had not diverged by {result.lr[-1]:.2g}"
    return "\n".join(
        [
            f"schedule.lr={result.suggestion:.2g}",
            f"to search: 'schedule.lr=tag(log, interval({result.search_low:.2g}, {result.search_high:.2g}))'",
            f"(the loss {end}; picture: {picture or f'with run {run.run_id}'})",
        ]
    )


def _draw(result: LrRangeResult, path: Path) -> None:
    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.85))
    axes.plot(result.lr, result.loss, color="0.8", linewidth=0.8, label="minibatch loss")
    axes.plot(result.lr, result.smoothed, label="smoothed")
    axes.axvspan(result.search_low, result.search_high, alpha=0.12, label="range for a search")
    axes.axvline(result.suggestion, color="tab:red", linestyle="--", label=f"suggestion {result.suggestion:.2g}")
    finite = [loss for loss in result.smoothed if loss < 2 * result.smoothed[0]]
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, nats per character")
    axes.set_ylim(0.95 * min(finite), 1.1 * max(finite))
    axes.legend()
    figure.savefig(path, dpi=100)
