"""`makemore lr-find`: the learning-rate range test, with its suggestion, its picture and its run in MLflow."""

from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig

from makemore.lr_range import LrRange, LrRangeResult, lr_range_test
from sweeps.config.messages import reason
from sweeps.config.names import check_output
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.study.runs import run_name
from sweeps.task.language_model.task import LanguageModel
from sweeps.task.run_config import read_run_config
from sweeps.tracking.runs import start_run
from sweeps.tracking.store import open_tracking


@dataclass(frozen=True)
class LrFindConfig:
    """The range of learning rates (`low` to `high` in `steps`), and the file for the picture."""

    low: float
    high: float
    steps: int
    picture: str | None

    def __post_init__(self) -> None:
        LrRange(self.low, self.high, self.steps)
        check_output("picture", self.picture, ".png")


def lr_find(cfg: DictConfig) -> str:
    """The text that `makemore lr-find` prints: a learning rate, a range for a search, and where the picture is.

    Raises:
        RequestError: the request is wrong; nothing is recorded.
        NoRange: the loss did not fall.
    """
    run_config = read_run_config(cfg)
    config: LrFindConfig = read_node(LrFindConfig, cfg, "lr_find")
    picture = config.picture
    task = run_config.task
    if not isinstance(task, LanguageModel):
        raise RequestError(f"task is {run_config.task_name}; lr-find needs task=language_model")
    if task.model.counted:
        raise RequestError(
            f"model is {task.model_name}; it must be mlp or your own: counts have no learning rate to find"
        )
    run_config.check()
    items = run_config.deal_items()
    corpus = task.corpus(items.split.train, items.split.dev)
    params = {key: value for key, value in run_config.params().items() if not key.startswith("schedule")}
    params |= {f"lr_find.{key}": value for key, value in asdict(config).items() if key != "picture"}
    name = f"lr-find {run_name(run_config.params(), None)}"
    run = start_run(open_tracking(cfg), name, "lr_find", params, {}, items, parts=("train",))
    try:
        result = lr_range_test(
            corpus,
            task.model,
            task.optimizer,
            task.training,
            LrRange(config.low, config.high, config.steps),
            run_config.seed,
            task.device,
        )
        for step, (lr, loss) in enumerate(zip(result.lr, result.smoothed, strict=True), 1):
            run.log_metrics({"lr": lr, "train_loss": loss}, step)
        run.log_metrics({"suggested_lr": result.suggestion})
        with run.artifacts() as folder:
            _draw(result, folder / "lr_find.png")
        if picture is not None:
            _draw(result, Path(picture))
    except BaseException as error:
        run.end("FAILED", {"reason": reason(error)})
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
