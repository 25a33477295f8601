import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from sweeps.config.files import conf_dir
from sweeps.errors import RequestError
from sweeps.search.sweep_words import format_override
from sweeps.study.jobs import Jobs


@pytest.fixture
def context() -> Iterator[HydraContext]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())


@dataclass
class Seen:
    """A callback of Hydra's and a task: what both are given, as plain values."""

    start: Any = None
    during: Any = None
    end: Any = None

    def on_job_start(self, config: DictConfig, task_function: Any) -> None:
        self.start = _plain(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn) -> None:
        assert _plain(config) == self.start
        told = dataclasses.asdict(dataclasses.replace(job_return, cfg=None, hydra_cfg=None))
        assert job_return.hydra_cfg is not None
        self.end = told, _plain(job_return.cfg), _plain(job_return.hydra_cfg.hydra)

    def task(self, cfg: DictConfig) -> float:
        hydra = OmegaConf.to_container(HydraConfig.get(), resolve=True, enum_to_str=True)  # type: ignore[arg-type]
        self.during = cfg.data.boundary, _plain(cfg), hydra, os.environ.get("OF_THE_JOB")
        if cfg.seed == 7:
            raise ValueError("seven")
        return 1.5


def _plain(cfg: DictConfig | None) -> Any:
    return OmegaConf.to_container(cfg, enum_to_str=True)


def test_a_job_is_run_as_hydra_would(context: HydraContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = ["space=mlp", "train.steps=70", "study.name='1e5'"]  # text that could be read as a number
    folders = ["sweep.dir=aside/../${study.name}", "sweep.subdir=job-${hydra:job.num}", "output_subdir=.hydra"]
    words = [*fixed, *(f"hydra.{word}" for word in folders), "+hydra.job.env_set.OF_THE_JOB=set"]
    cfg = context.config_loader.load_configuration("config", words, run_mode=RunMode.MULTIRUN)
    HydraConfig.instance().set_config(cfg)
    before = HydraConfig.instance().cfg
    jobs = Jobs(context, cfg, fixed)
    for number, setting in enumerate(
        [
            {"model.block_size": 5, "schedule": "step", "schedule.decay_at": 0.25, "schedule.lr": 1e-05},
            {"schedule": "cosine", "optimizer": "sgd", "schedule.lr": 0.5, "train.targets": "sampled"},
            {"model.block_size": 3, "data.boundary": "|", "seed": 7},
            {"data.boundary": "${hydra:runtime.output_dir}", "data.path": "it's a=b, c.txt"},
        ]
    ):
        ordered = sorted(setting.items(), key=lambda item: item[0] not in ("schedule", "optimizer"))  # groups first
        overrides = [*fixed, *(format_override(key, value) for key, value in ordered)]
        theirs = context.config_loader.load_sweep_config(cfg, overrides)
        OmegaConf.set_readonly(theirs.hydra, False)
        theirs.hydra.job.id = theirs.hydra.job.num = number
        found = []
        for run in (
            lambda task: run_job(task, theirs, "hydra.sweep.dir", "hydra.sweep.subdir", context),  # noqa: B023
            lambda task: jobs.run(setting, task, number),  # noqa: B023
        ):
            context.callbacks.callbacks = [seen := Seen()]
            job = run(seen.task)
            assert job.status == (JobStatus.FAILED if number == 2 else JobStatus.COMPLETED)
            assert HydraConfig.instance().cfg is before
            assert "OF_THE_JOB" not in os.environ
            folder = tmp_path / f"1e5/job-{number}"
            files = {path.name: _plain(OmegaConf.load(path)) for path in (folder / ".hydra").iterdir()}
            found.append((vars(seen), files))
            rmtree(folder)
        hydras, ours = found

        assert str(ours) == str(hydras)  # as text: the error of the task is another object
        assert ours[0]["during"][3] == "set"


def test_a_key_that_does_not_exist_is_named(context: HydraContext) -> None:
    cfg = context.config_loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    with pytest.raises(RequestError, match=r"model\.blok_size is not a key of model=mlp; did you mean block_size\?"):
        Jobs(context, cfg, []).compose({"model.blok_size": 3})
