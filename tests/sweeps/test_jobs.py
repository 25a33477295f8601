from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from sweeps.config import conf_dir
from sweeps.errors import RequestError
from sweeps.jobs import Jobs, write_configs
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
        theirs.hydra.job.id = theirs.hydra.job.num = 4
        ours = jobs.compose(setting, 4)
        assert sorted(ours.hydra.overrides.task) == sorted(theirs.hydra.overrides.task)
        ours.hydra.overrides.task = theirs.hydra.overrides.task  # groups first
        assert ours == theirs


def test_a_job_leaves_the_files_that_hydra_would(
    context: HydraContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = ["study.name='1e5'", "hydra.sweep.subdir=job-${hydra:job.num}"]  # text that could be read as a number
    cfg = context.config_loader.load_configuration("config", fixed, run_mode=RunMode.MULTIRUN)
    jobs = Jobs(context, cfg, fixed)
    setting = {"schedule": "step", "schedule.lr": 1e-05, "data.boundary": "|", "model.block_size": 5}
    assert jobs.run(jobs.compose(setting, 4), write_configs).status == JobStatus.COMPLETED
    theirs = jobs.compose(setting, 4)
    theirs.hydra.output_subdir = "theirs"
    run_job(lambda cfg: None, theirs, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    job = tmp_path / "mlruns/outputs/1e5/job-4"
    assert {path.name for path in (job / ".hydra").iterdir()} == {path.name for path in (job / "theirs").iterdir()}
    for name in ("config", "hydra", "overrides"):
        mine, hydras = (OmegaConf.load(job / folder / f"{name}.yaml") for folder in (".hydra", "theirs"))
        if name == "hydra":
            mine.hydra.output_subdir = "theirs"  # null there
        assert OmegaConf.to_container(mine) == OmegaConf.to_container(hydras)


def test_a_key_that_does_not_exist_is_named(context: HydraContext) -> None:
    cfg = context.config_loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    with pytest.raises(RequestError, match=r"model\.blok_size is not a key of model=mlp; did you mean block_size\?"):
        Jobs(context, cfg, []).compose({"model.blok_size": 3})
