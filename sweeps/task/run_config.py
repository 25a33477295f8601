"""The config of a run: everything that decides its weights, which is the task, the split of its items and the seed."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from makemore.limits import LimitError, check
from makemore.optimizer import OPTIMIZERS
from makemore.schedule import SCHEDULES
from makemore.train import TrainConfig
from sweeps.config.reading import build, container, read_node
from sweeps.config.targets import find_class
from sweeps.errors import RequestError
from sweeps.task.checkpoint_config import CheckpointConfig
from sweeps.task.items import Items, deal_items
from sweeps.task.language_model.models import read_model
from sweeps.task.language_model.sources import DataConfig
from sweeps.task.language_model.task import LanguageModel
from sweeps.task.split import SplitConfig
from sweeps.task.task import Task

LANGUAGE_MODEL = "language_model"
RUN_KEYS = ("task", "data", "model", "optimizer", "schedule", "train", "seed", "device")
_ROOT_KEYS = (
    *RUN_KEYS,
    "study",
    "sampler",
    "pruner",
    "space",
    "tracking",
    "lr_find",
    "ladder",
    "looks",
    "format",
    "run",
    "hooks",
    "hydra",
)
_LANGUAGE_MODEL_KEYS = ("model", "optimizer", "schedule", "train", "device")
_KEYS_OF_ALL_TASKS = ("train.evaluations", "train.checkpoint")  # pruners count in the first
_NOT_IN_DIGEST = ("data.path",)  # the content of a user's file counts, not its path


@dataclass(frozen=True)
class RunConfig:
    """The checked config of one run."""

    task_name: str
    task: Task
    split: SplitConfig
    seed: int
    checkpoint: CheckpointConfig

    def params(self) -> dict[str, Any]:
        """Flat dotted keys, spelled as on the command line: {"model": "mlp", "model.block_size": 3, ...}."""
        params = self.task.params()
        if self.task_name != LANGUAGE_MODEL:  # its own params include the split
            split = {"data.split": self.split.rule, "data.split_seed": self.split.seed}
            params = {"task": self.task_name, **params, **split}
        return {**params, "seed": self.seed}

    def digest(self, seeds: str | None = None, without: tuple[str, ...] = ()) -> str:
        """The identity of the run: a hash of its resolved params without paths (12 hex digits).

        Args:
            seeds: of a run that stands for several seeds; None: the config's own.
        """
        params = self.params() | ({"seed": seeds} if seeds else {})
        kept = {key: value for key, value in params.items() if key not in (*_NOT_IN_DIGEST, *without)}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]

    def deal_items(self) -> Items:
        """The task's items, dealt into train and dev.

        Raises:
            RequestError: the items cannot be read, there are too few, or the split rule would separate their groups.
        """
        return deal_items(self.task, self.split)

    def check(self) -> None:
        """Raise RequestError, with one line, if no run of this config can succeed."""
        try:
            self.task.check()
        except RequestError:
            raise
        except (ValueError, NotImplementedError, TypeError) as error:
            raise RequestError(str(error)) from None


def read_run_config(cfg: DictConfig) -> RunConfig:
    """The checked config of a run, from a composed or a recorded config.

    Raises:
        RequestError: a key is unknown or missing, a value has a wrong type or is outside its range, or the class of
            a task or a model cannot be found.
    """
    for key in map(str, cfg):
        if key not in _ROOT_KEYS:
            raise RequestError(f"{key} is not a key; there are {', '.join(_ROOT_KEYS)}")
    seed = build(_Seed, "", {"seed": OmegaConf.select(cfg, "seed")}).seed
    node = container(cfg, "task") if "task" in cfg else {"name": LANGUAGE_MODEL}  # the oldest records have no task
    if "_target_" not in node:
        if node.get("name") != LANGUAGE_MODEL:
            raise RequestError(
                f"task.name is {node.get('name')}; it must be {LANGUAGE_MODEL}, or your own class: "
                "task._target_=MODULE.CLASS"
            )
        task = _read_language_model(cfg)
        split = SplitConfig(task.data.split, task.data.split_seed)
        return RunConfig(LANGUAGE_MODEL, task, split, seed, _read_checkpoint(cfg))
    kind = find_class("task", node.pop("_target_"), Task)
    name = str(node.pop("name", None) or kind.__name__)
    for needed in ("read", "build", "train", "losses"):
        if getattr(kind, needed) is getattr(Task, needed):
            raise RequestError(f"task={name}: {kind.__name__} has no method {needed}; a task needs it")
    data = container(cfg, "data")
    own_split = build(_OwnSplit, "data", {key: data.get(key) for key in ("split", "split_seed")})
    split = SplitConfig(own_split.split, own_split.split_seed)
    return RunConfig(name, build(kind, "task", node, name), split, seed, _read_checkpoint(cfg))


def check_overrides(config: RunConfig, overrides: Iterable[str]) -> None:
    """Raise RequestError if an override of a language model's key has no effect because the task is another."""
    if config.task_name == LANGUAGE_MODEL:
        return
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] in _LANGUAGE_MODEL_KEYS and key not in _KEYS_OF_ALL_TASKS:
            raise RequestError(
                f"{key} has no effect with task={config.task_name}; its keys are {', '.join(config.params())}"
            )


@dataclass(frozen=True)
class _Seed:
    seed: int

    def __post_init__(self) -> None:
        check("seed", self.seed, low=0, high=2**63 - 1)


@dataclass(frozen=True)
class _OwnSplit:
    """The keys of `data` that have an effect with a user's own task."""

    split: str
    split_seed: int

    def __post_init__(self) -> None:
        SplitConfig(self.split, self.split_seed)


def _read_language_model(cfg: DictConfig) -> LanguageModel:
    model_name, model = read_model(container(cfg, "model"))
    device = build(_Device, "", {"device": OmegaConf.select(cfg, "device")}).device
    try:
        return LanguageModel(
            data=read_node(DataConfig, cfg, "data"),
            model_name=model_name,
            model=model,
            optimizer=_read_named(OPTIMIZERS, cfg, "optimizer"),
            schedule=_read_named(SCHEDULES, cfg, "schedule"),
            training=build(TrainConfig, "train", _without_checkpoint(cfg)),
            device=device,
        )
    except LimitError as error:
        raise RequestError(str(error)) from None


@dataclass(frozen=True)
class _Device:
    device: str


def _without_checkpoint(cfg: DictConfig) -> dict[str, Any]:
    """The values of `train` that decide a model's weights."""
    return {key: value for key, value in container(cfg, "train").items() if key != "checkpoint"}


def _read_checkpoint(cfg: DictConfig) -> CheckpointConfig:
    """The key train.checkpoint, which records of older versions lack."""
    config: CheckpointConfig = build(
        CheckpointConfig, "train", {"checkpoint": OmegaConf.select(cfg, "train.checkpoint")}
    )
    return config


def _read_named(table: dict[str, Any], cfg: DictConfig, group: str) -> Any:
    tree = container(cfg, group)
    name = tree.pop("name", None)
    if not isinstance(name, str) or name not in table:
        raise RequestError(f"{group}.name is {name}; it must be {' or '.join(table)}: choose with {group}=...")
    return build(table[name], group, tree, name)
