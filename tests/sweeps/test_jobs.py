from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from sweeps.config import conf_dir
from sweeps.errors import RequestError
from sweeps.jobs import Jobs
from sweeps.space import format_override


@pytest.fixture
def context() -> Iterator[HydraContext]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        yield HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())


def test_a_job_is_composed_as_hydra_would(context: HydraContext) -> None:
    fixed = ["space=mlp", "train.steps=70", "study.name=a"]
    cfg = context.config_loader.load_configuration("config", fixed, run_mode=RunMode.MULTIRUN)
    HydraConfig.instance().set_config(cfg)
    jobs = Jobs(context, cfg, fixed)
    for setting in (
        {"model.block_size": 5, "schedule": "step", "schedule.decay_at": 0.25, "schedule.lr": 1e-05},
        {"schedule": "cosine", "optimizer": "sgd", "schedule.lr": 0.5, "train.targets": "sampled"},
        {"model.block_size": 3, "data.boundary": "|", "seed": 7},
        {"data.path": "it's a=b, c.txt"},
    ):
        overrides = [*fixed, *(format_override(key, value) for key, value in setting.items())]
        theirs = context.config_loader.load_sweep_config(cfg, overrides)
        OmegaConf.set_readonly(theirs.hydra, False)
        theirs.hydra.output_subdir = ".hydra"
        theirs.hydra.job.id = theirs.hydra.job.num = 4
        ours = jobs.compose(setting, 4)
        ours.hydra.overrides.hydra = theirs.hydra.overrides.hydra  # hydra.output_subdir is an override there
        assert sorted(ours.hydra.overrides.task) == sorted(theirs.hydra.overrides.task)
        ours.hydra.overrides.task = theirs.hydra.overrides.task  # groups first
        assert ours == theirs


def test_a_key_that_does_not_exist_is_named(context: HydraContext) -> None:
    cfg = context.config_loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    with pytest.raises(RequestError, match=r"model\.blok_size is not a key of model=mlp; did you mean block_size\?"):
        Jobs(context, cfg, []).compose({"model.blok_size": 3})
