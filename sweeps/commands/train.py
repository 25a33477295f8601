"""`makemore train`: one training run, logged."""

from collections.abc import Iterable

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from sweeps.config.terminal import wrap
from sweeps.errors import RequestError
from sweeps.search.sweep_words import parse_overrides
from sweeps.study.runs import open_run
from sweeps.task.recorded import load_config
from sweeps.task.remarks import print_remarks
from sweeps.task.run_config import RUN_KEYS, check_overrides, read_run_config
from sweeps.tracking.artifacts import fetch_artifact
from sweeps.tracking.queries import find_runs
from sweeps.tracking.store import open_tracking


def train(cfg: DictConfig) -> str:
    """The text that `makemore train` prints, after a training run that is recorded in MLflow.

    Raises:
        RequestError: the request is wrong; nothing was recorded.
        Exception: training failed or diverged; the run is recorded as failed, with its curve so far.
    """
    overrides = HydraConfig.get().overrides.task
    if cfg.run is not None:
        cfg = _repeated(cfg, overrides)
    check_overrides(read_run_config(cfg), overrides)
    given = [line.lstrip("+").partition("=")[0] for line in overrides]
    run = open_run(cfg, lambda: open_tracking(cfg), given=given)
    print_remarks(run.config.task, run.items.split.dev)
    outcome = run.train_and_end()
    how, *remarks = outcome.description.remarks or ("trained",)
    unit = run.config.task.unit
    lines = [f"dev loss {outcome.dev_loss:.4f} {unit}, {how}; run {run.tracked.run_id}", *remarks]
    return "\n".join(map(wrap, lines))


def _repeated(cfg: DictConfig, overrides: Iterable[str]) -> DictConfig:
    """The config of the recorded run that `run` names, with the overrides of the command line on top.

    Raises:
        RequestError: no such run, a run that did not finish, or a choice that changes more than its own group.
    """
    store = open_tracking(cfg, create=False)
    [run] = find_runs(store, [str(cfg.run)], "run is")
    recorded = load_config(fetch_artifact(store, run.run_id, "config.yaml"))
    repeated = cfg.copy()
    with open_dict(repeated):
        repeated.run = None
        for key in RUN_KEYS:
            if key in recorded:
                repeated[key] = recorded[key]
        for override in parse_overrides(list(overrides)):
            key = override.key_or_group
            if key in ("experiment", "space"):
                raise RequestError(f"{key} is given together with run={cfg.run}; give the keys that are to change")
            if key.partition(".")[0] in RUN_KEYS:
                OmegaConf.update(repeated, key, OmegaConf.select(cfg, key), merge=False)
    return repeated
