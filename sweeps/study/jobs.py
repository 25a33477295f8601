"""Trials as Hydra jobs."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sweeps.config.files import has_passwords, write_yaml
from sweeps.config.messages import one_line
from sweeps.config.names import name_own_classes
from sweeps.errors import RequestError
from sweeps.search.space import Setting
from sweeps.search.sweep_words import format_override


class Jobs:
    """The Hydra jobs of a study.

    Hydra takes 60 ms to compose a config. So it composes one for each choice of groups (schedule=cosine, ...), and
    plain values are set on a copy, as Hydra itself does at the end of composing. What was composed goes along to
    workers in other processes.
    """

    def __init__(self, hydra_context: HydraContext, cfg: DictConfig, fixed: list[str]) -> None:
        self.hydra_context, self._cfg, self._fixed = hydra_context, cfg, fixed
        self._groups = set(cfg.hydra.runtime.choices)
        self._has_passwords = has_passwords(cfg)
        self._composed: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}

    def compose(self, setting: Setting) -> DictConfig:
        """The config that the task of a job is given.

        Raises:
            HydraException: a group or a choice that does not exist.
            RequestError: a key that does not exist, or cannot have the value.
        """
        groups, values = self._split(setting)
        cfg, _ = self._compose_groups(groups)
        return _with_values(cfg, values)

    def run(
        self, setting: Setting, task: Callable[[DictConfig], Any], number: int, subdir: str | None = None
    ) -> JobReturn:
        """Run a task as the job of a setting: with its folder, log, environment, callbacks and HydraConfig.

        Args:
            subdir: of the folder, in place of hydra.sweep.subdir.

        Raises:
            Exception: the job cannot be composed, or its folder not be made. What the task raises is returned.
        """
        groups, values = self._split(setting)
        _, with_hydra = self._compose_groups(groups)
        cfg = _with_values(with_hydra, values)
        cfg.hydra.overrides.task.extend([format_override(key, value) for key, value in values.items()])
        overrides: Any = OmegaConf.to_container(cfg.hydra.overrides.task)  # as given: one may be an interpolation
        cfg.hydra.job.override_dirname = _override_dirname(overrides, cfg.hydra.job.config.override_dirname)
        cfg.hydra.job.id = cfg.hydra.job.num = number
        if subdir is not None:
            cfg.hydra.sweep.subdir = subdir
        if self._has_passwords:  # Hydra would write them into the files of the job
            folder, cfg.hydra.output_subdir = cfg.hydra.output_subdir, None
            task = partial(_write_and_run, task, str(folder))
        OmegaConf.set_readonly(cfg.hydra, True)
        return run_job(task, cfg, "hydra.sweep.dir", "hydra.sweep.subdir", self.hydra_context)

    def _split(self, setting: Setting) -> tuple[tuple[str, ...], Setting]:
        """A setting's choices of groups, as overrides, and its plain values."""
        groups = tuple(format_override(key, value) for key, value in setting.items() if key in self._groups)
        return groups, {key: value for key, value in setting.items() if key not in self._groups}

    def _compose_groups(self, groups: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        """The config of choices of groups, without and with its `hydra` node."""
        if groups not in self._composed:
            with_hydra = self.hydra_context.config_loader.load_sweep_config(self._cfg, [*self._fixed, *groups])
            OmegaConf.set_readonly(with_hydra.hydra, False)
            name_own_classes(with_hydra, with_hydra.hydra.runtime.choices)
            # A single run has no folder of its own for Hydra's files (conf/config.yaml); a trial has.
            with_hydra.hydra.output_subdir = with_hydra.hydra.output_subdir or ".hydra"
            cfg = copy.deepcopy(with_hydra)
            with open_dict(cfg):
                del cfg["hydra"]
            self._composed[groups] = cfg, with_hydra
        return self._composed[groups]


def _write_and_run(task: Callable[[DictConfig], Any], subdir: str, cfg: DictConfig) -> Any:
    """Run a task after writing the files that Hydra writes of a job, without passwords."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir) / subdir
    folder.mkdir(exist_ok=True)
    for name, node in (("config", cfg), ("hydra", {"hydra": hydra}), ("overrides", hydra.overrides.task)):
        write_yaml(folder / f"{name}.yaml", node)
    return task(cfg)


def _with_values(composed: DictConfig, values: Setting) -> DictConfig:
    """A copy of a config, with other plain values."""
    cfg = copy.deepcopy(composed)
    for key, value in values.items():
        try:
            OmegaConf.update(cfg, key, value)
        except OmegaConfBaseException as error:
            other = key.startswith("model.") and cfg.space.name != "none"
            hint = (
                f": is space={cfg.space.name} for another model? (space=none searches your words alone)"
                if other
                else ""
            )
            raise RequestError(one_line(error) + hint) from None
    return cfg


def _override_dirname(overrides: list[str], words: DictConfig) -> str:
    """The hydra.job.override_dirname that Hydra makes of a job's overrides when it composes."""
    kept = [line for line in overrides if line.partition("=")[0].lstrip("+~") not in words.exclude_keys]
    return str(words.item_sep.join(sorted(kept)).replace("=", words.kv_sep))
