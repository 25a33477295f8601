"""The public Python API: studies and runs from a notebook."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.tracking.quiet import quiet_mlflow

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from omegaconf import DictConfig

    from sweeps.reports.studies import StudyResults
    from sweeps.task.run_config import RunConfig
    from sweeps.task.task import Trained
    from sweeps.tracking.queries import RunRecord
    from sweeps.tracking.store import TrackingStore


@dataclass(frozen=True)
class Run:
    """A recorded run: what MLflow has of it, and its trained model."""

    record: "RunRecord"
    _store: "TrackingStore"

    @property
    def run_id(self) -> str:
        """Its id in MLflow."""
        return self.record.run_id

    @property
    def dev_loss(self) -> float:
        """The dev loss of the kept weights, in the task's unit; NaN where the run did not finish."""
        return self.record.best_dev_loss

    @property
    def params(self) -> Mapping[str, str]:
        """Its configuration as flat dotted keys, as text."""
        return self.record.params

    def curve(self) -> "pd.DataFrame":
        """What it reported: columns step, dev_loss and, for language models, train_loss and lr."""
        import pandas as pd

        from sweeps.tracking.queries import read_reports

        return pd.DataFrame(read_reports(self._store, self.run_id))

    def model(self) -> "Trained":
        """The trained model; its `module` is a torch.nn.Module.

        Raises:
            RequestError: the run did not finish, or the class of its model or task cannot be found.
        """
        return self._recorded()[1]

    def sample(self, n: int = 10, temperature: float = 1.0, seed: int = 0, prefix: str = "") -> list[str]:
        """`n` new items that the model draws; for language models, words that begin with the prefix.

        Raises:
            RequestError: the task draws no samples.
        """
        config, trained = self._recorded()
        return config.task.sample(trained, n, temperature, seed, prefix)

    def dev_losses(self) -> "pd.DataFrame":
        """One row for each dev item: item, loss (the sum of its terms) and terms."""
        import pandas as pd

        from sweeps.task.item_losses import DEV_LOSSES, read_item_losses
        from sweeps.tracking.artifacts import fetch_artifact

        losses, terms = read_item_losses(fetch_artifact(self._store, self.run_id, DEV_LOSSES))
        items = self._recorded()[0].deal_items().split.dev
        return pd.DataFrame({"item": items, "loss": losses.numpy(), "terms": terms.numpy()})

    def _recorded(self) -> "tuple[RunConfig, Trained]":
        from sweeps.reports.recorded import load_recorded

        recorded = load_recorded(self._store, self.run_id)
        return recorded.config, recorded.trained


@dataclass(frozen=True)
class Study:
    """A recorded study: its trials, its winner and its pictures."""

    results: "StudyResults"
    _store: "TrackingStore"
    _storage: str

    @property
    def name(self) -> str:
        """Its name, study.name."""
        return self.results.name

    @property
    def trials(self) -> "pd.DataFrame":
        """One row for each trial, lowest dev loss first; params that differ between trials have a column each."""
        from sweeps.reports.leaderboard import leaderboard
        from sweeps.reports.tables import leaderboard_table

        confirmed = {
            run.run_id: confirmation
            for confirmation in self.results.confirmations
            for run in self.results.trials
            if run.trial == confirmation.trial
        }
        return leaderboard_table(leaderboard(self.results.trials), confirmed)

    @property
    def winner(self) -> Run | None:
        """The run that won: the lowest mean dev loss over fresh seeds; None if no trial is complete."""
        return None if self.results.winner is None else Run(self.results.winner, self._store)

    def pictures(self) -> "dict[str, go.Figure]":
        """Interactive pictures by name: history, importances, parallel coordinates, learning curves and so on.

        Raises:
            RequestError: fewer than two trials are complete.
        """
        from sweeps.errors import RequestError
        from sweeps.reports.insight import importances
        from sweeps.reports.study_pictures import StudyPictures
        from sweeps.trials.trials import open_trials

        if len(self.results.complete) < 2:
            raise RequestError(f"study {self.name} has {len(self.results.complete)} complete trials; pictures need two")
        trials = open_trials(self.name, self._storage, create=False)
        pictures = StudyPictures(trials.study, self.results, importances(trials.standing()))
        return {heading: figure for heading, _, figure in pictures.parts()}


def run_study(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> Study:
    """Start a study or go on with it, as `makemore sweep` does, and return it.

    Args:
        overrides: as on the command line: "study.name=first", "model.block_size=2,3", "study.n_trials=6".
        config_dir: a folder with your own config groups, as --config-dir.

    Raises:
        RequestError: the request is wrong; nothing was started.
        AllTrialsFailed: no trial of the study is complete.
    """
    _quiet()
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    path = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    given = [*path, *overrides]
    plain = [line for line, override in zip(given, OverridesParser.create().parse_overrides(given), strict=True)
             if not override.is_sweep_override()]  # fmt: skip
    with _hydra():
        name = str(_compose("config", plain).study.name)
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None  # it was just initialised
        hydra.multirun("config", task_function=lambda cfg: None, overrides=given, with_log_configuration=False)
    records = [line for line in plain if line.lstrip("+").startswith(("study.storage=", "tracking."))]
    return load_study(name, *records)


def load_study(name: str | None = None, *overrides: str) -> Study:
    """A study that was recorded; without a name, the newest one.

    Args:
        overrides: where the records are, where that is not mlruns/ in the current folder: "tracking.uri=...",
            "study.storage=...".

    Raises:
        RequestError: there is no such study.
    """
    _quiet()
    from sweeps.databases import resolve_url
    from sweeps.reports.studies import find_study
    from sweeps.tracking.store import open_tracking

    with _hydra():
        cfg = _compose("records", list(overrides))
    store = open_tracking(cfg, create=False)
    storage = resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True, writes=False)
    return Study(find_study(store, name), store, storage)


def load_run(run_id: str, *overrides: str) -> Run:
    """A recorded run by its id in MLflow, or the beginning of it; `overrides` as for `load_study`.

    Raises:
        RequestError: there is no such run, or several begin so.
    """
    _quiet()
    from sweeps.tracking.queries import find_runs
    from sweeps.tracking.store import open_tracking

    with _hydra():
        cfg = _compose("records", list(overrides))
    store = open_tracking(cfg, create=False)
    return Run(find_runs(store, [run_id], "run_id is")[0], store)


def _quiet() -> None:
    """Switch off MLflow's telemetry and notices, and what Optuna logs below warnings."""
    quiet_mlflow()  # before anything imports MLflow
    from sweeps.trials.storage import quiet_optuna

    quiet_optuna()


@contextmanager
def _hydra() -> Iterator[None]:
    """While inside, Hydra composes our config tree; what it says of a mistake is one line."""
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from sweeps.config.files import conf_dir
    from sweeps.config.messages import one_line
    from sweeps.errors import RequestError

    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="makemore"):
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(one_line(error)) from None


def _compose(config_name: str, overrides: list[str]) -> "DictConfig":
    from hydra import compose

    cfg: Any = compose(config_name, overrides=overrides)
    return cfg  # type: ignore[no-any-return]
