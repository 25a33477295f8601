"""`makemore train`: one training run, logged."""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sweeps.study.runs import open_run
from sweeps.task.remarks import print_remarks
from sweeps.task.run_config import check_overrides, read_run_config
from sweeps.tracking.store import open_tracking


def train(cfg: DictConfig) -> str:
    """The text that `makemore train` prints, after a training run that is recorded in MLflow.

    Raises:
        RequestError: the request is wrong; nothing was recorded.
        Exception: training failed or diverged; the run is recorded as failed, with its curve so far.
    """
    check_overrides(read_run_config(cfg), HydraConfig.get().overrides.task)
    run = open_run(cfg, lambda: open_tracking(cfg))
    print_remarks(run.config.task, run.items.split.dev)
    outcome = run.train_and_end()
    how, *remarks = outcome.description.remarks or ("trained",)
    unit = run.config.task.unit
    return "\n".join([f"dev loss {outcome.dev_loss:.4f} {unit}, {how}; run {run.tracked.run_id}", *remarks])
