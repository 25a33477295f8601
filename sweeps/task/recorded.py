"""A recorded run, read back: its config and its trained model."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sweeps.errors import RequestError
from sweeps.task.run_config import RunConfig, read_run_config
from sweeps.task.task import Trained


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """The config and the trained model of a run that has ended."""

    config: RunConfig
    trained: Trained


def read_recorded_config(path: Path) -> RunConfig:
    """The config of a run from its recorded config.yaml, with the device set to cpu.

    The classes that it names are imported from the user's own Python path; no recorded code is executed.

    Raises:
        RequestError: the file is not a recorded config, or its task or model class cannot be found.
    """
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise RequestError(f"{path} is not a recorded config")
    kept = {key: cfg[key] for key in cfg if key in ("task", "data", "model", "optimizer", "schedule", "train", "seed")}
    return read_run_config(OmegaConf.create({**kept, "device": "cpu"}))  # this machine may lack the training device


def read_recorded(config_path: Path, weights_path: Path) -> RecordedRun:
    """The config and the trained model of a run from its recorded config and weights.

    Raises:
        RequestError: a file cannot be read as config or weights, or a class cannot be found.
    """
    config = read_recorded_config(config_path)
    try:
        return RecordedRun(config, config.task.load(weights_path))
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(
            f"{weights_path} cannot be read as weights of task={config.task_name} ({type(error).__name__}: {error})"
        ) from None
