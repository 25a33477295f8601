"""A recorded run read back: its config, its trained model, and the items it was trained on."""

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
    """The config of a run from its recorded config.yaml.

    Classes that it names are found on the user's own Python path; nothing of the record is executed.

    Raises:
        RequestError: not such a file, or one whose task or model class cannot be found.
    """
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise RequestError(f"{path} is not a recorded config")
    kept = {key: cfg[key] for key in cfg if key in ("task", "data", "model", "optimizer", "schedule", "train", "seed")}
    return read_run_config(OmegaConf.create({**kept, "device": "cpu"}))  # where it was trained may not be here


def read_recorded(config_path: Path, weights_path: Path) -> RecordedRun:
    """A run from its recorded config and weights.

    Raises:
        RequestError: a file is not what it should be, or a class cannot be found.
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
