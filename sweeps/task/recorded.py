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


def load_config(path: Path) -> DictConfig:
    """A recorded config.yaml as it stands.

    Raises:
        RequestError: the file is not a recorded config, or has an interpolation: it was resolved when it was recorded,
            and one that was put in later would read a variable of the reader's environment.
    """
    cfg = OmegaConf.load(path)
    if not isinstance(cfg, DictConfig):
        raise RequestError(f"{path} is not a recorded config")
    if key := _interpolated(OmegaConf.to_container(cfg, resolve=False)):
        raise RequestError(
            f"{path}: {key} contains ${{...}}, which a recorded config never does; somebody has changed the file"
        )
    return cfg


def _interpolated(node: object, key: str = "") -> str | None:
    """The dotted key of a text in which OmegaConf would put something else."""
    if isinstance(node, str) and "${" in node:
        return key
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = (_interpolated(value, f"{key}.{name}".lstrip(".")) for name, value in children)
    return next(filter(None, found), None)


def read_recorded_config(path: Path) -> RunConfig:
    """The config of a run from its recorded config.yaml, with the device set to cpu.

    The classes that it names are imported from the user's own Python path; no recorded code is executed.

    Raises:
        RequestError: the file is not a recorded config, or its task or model class cannot be found.
    """
    cfg = load_config(path)
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
