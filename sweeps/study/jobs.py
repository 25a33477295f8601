"""Trials as Hydra jobs, composed and run cheaply."""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, _flush_loggers, configure_log, env_override
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sweeps.config.files import write_yaml
from sweeps.config.messages import one_line
from sweeps.config.names import name_own_classes
from sweeps.errors import RequestError
from sweeps.search.space import Setting, format_override


class Jobs:
    """The Hydra jobs of a study.

    Hydra takes 60 ms to compose a config. So it composes one for each choice of groups (schedule=cosine, ...), and
    plain values are set on a copy, as it does itself at the end of composing: 3 ms. The copy is by way of pickle: a
    deep copy takes 4 ms, this 0.6. What was composed goes along to workers in other processes.
    """

    def __init__(self, hydra_context: HydraContext, cfg: DictConfig, fixed: list[str]) -> None:
        self.hydra_context, self._cfg, self._fixed = hydra_context, cfg, fixed
        self._groups = set(cfg.hydra.runtime.choices)
        self._packed: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def compose(self, setting: Setting) -> DictConfig:
        """The config that the task of a job has.

        Raises:
            HydraException: a group or a choice that does not exist.
            RequestError: a key that does not exist, or cannot have the value.
        """
        groups, plain = self._split(setting)
        return _with_values(self._compose_groups(groups)[0], plain)

    def run(
        self, setting: Setting, task: Callable[[DictConfig], Any], number: int, subdir: str | None = None
    ) -> JobReturn:
        """Run a task as the job of a setting: with its folder, log, environment, callbacks and HydraConfig.

        Does as hydra.core.utils.run_job does, whose copies of the config would take 10 ms of each trial; but knows
        neither hydra.job.chdir, which a study refuses, nor hydra.output_subdir, which here is .hydra.

        Args:
            subdir: of the folder, in place of hydra.sweep.subdir.

        Raises:
            Exception: the job cannot be composed, or its folder not be made. What the task raises is returned.
        """
        groups, plain = self._split(setting)
        cfg, whole = (_with_values(packed, plain) for packed in self._compose_groups(groups))
        whole.hydra.overrides.task.extend([format_override(key, value) for key, value in plain.items()])
        overrides: Any = OmegaConf.to_container(whole.hydra.overrides.task)  # as given: one may be an interpolation
        whole.hydra.job.override_dirname = _dirname(overrides, whole.hydra.job.config.override_dirname)
        whole.hydra.job.id = whole.hydra.job.num = number
        if subdir is not None:
            whole.hydra.sweep.subdir = subdir
        with _in_hydra_config(whole):
            output_dir = os.path.abspath(  # noqa: PTH100 - without .., as Hydra has it
                Path(whole.hydra.sweep.dir, str(whole.hydra.sweep.subdir))
            )
            whole.hydra.runtime.output_dir = output_dir
            OmegaConf.set_readonly(whole.hydra, True)
            _write_configs(Path(output_dir, ".hydra"), cfg, whole)
            configure_log(whole.hydra.job_logging, whole.hydra.verbose)
            job = JobReturn(
                overrides=overrides,
                cfg=cfg,
                hydra_cfg=whole,
                working_dir=str(Path.cwd()),
                task_name=JobRuntime.instance().get("name"),
            )
            with env_override(whole.hydra.job.env_set):
                self.hydra_context.callbacks.on_job_start(config=whole, task_function=task)
                try:
                    job.return_value, job.status = task(cfg), JobStatus.COMPLETED
                except Exception as error:
                    job.return_value, job.status = error, JobStatus.FAILED
            _flush_loggers()
            self.hydra_context.callbacks.on_job_end(config=whole, job_return=job)
        return job

    def _split(self, setting: Setting) -> tuple[tuple[str, ...], Setting]:
        """A setting's choices of groups, as overrides, and its plain values."""
        groups = tuple(format_override(key, value) for key, value in setting.items() if key in self._groups)
        return groups, {key: value for key, value in setting.items() if key not in self._groups}

    def _compose_groups(self, groups: tuple[str, ...]) -> tuple[bytes, bytes]:
        """The config of choices of groups, pickled, without and with its `hydra` node."""
        if groups not in self._packed:
            whole = self.hydra_context.config_loader.load_sweep_config(self._cfg, [*self._fixed, *groups])
            name_own_classes(whole, whole.hydra.runtime.choices)
            OmegaConf.set_readonly(whole.hydra, False)
            cfg = whole.copy()
            with open_dict(cfg):
                del cfg["hydra"]
            # Plain pickle refuses classes of Hydra's plugins in a worker's process.
            self._packed[groups] = cloudpickle.dumps(cfg), cloudpickle.dumps(whole)
        return self._packed[groups]


def _with_values(packed: bytes, plain: Setting) -> DictConfig:
    """A packed config, with other plain values."""
    cfg: DictConfig = pickle.loads(packed)
    for key, value in plain.items():
        try:
            OmegaConf.update(cfg, key, value)
        except OmegaConfBaseException as error:
            hint = f": is space={cfg.space.name} for another model?" if key.startswith("model.") else ""
            raise RequestError(one_line(error) + hint) from None
    return cfg


@contextmanager
def _in_hydra_config(whole: DictConfig) -> Iterator[None]:
    """While inside, HydraConfig, which interpolations ask, is that of a config."""
    instance = HydraConfig.instance()
    before, instance.cfg = instance.cfg, whole  # type: ignore[assignment]
    try:
        yield
    finally:
        instance.cfg = before


def _write_configs(folder: Path, cfg: DictConfig, whole: DictConfig) -> None:
    """The files in which Hydra describes a job, in half of its time."""
    folder.mkdir(parents=True, exist_ok=True)
    hydra: Any = OmegaConf.to_container(whole.hydra, enum_to_str=True)
    config = OmegaConf.to_container(cfg, enum_to_str=True)
    for name, part in {"config": config, "hydra": {"hydra": hydra}, "overrides": hydra["overrides"]["task"]}.items():
        write_yaml(folder / f"{name}.yaml", part)


def _dirname(overrides: list[str], words: DictConfig) -> str:
    """What Hydra makes hydra.job.override_dirname of a job's overrides; parsing them anew would take 3 ms."""
    kept = [line for line in overrides if line.partition("=")[0].lstrip("+~") not in words.exclude_keys]
    return str(words.item_sep.join(sorted(kept)).replace("=", words.kv_sep))
