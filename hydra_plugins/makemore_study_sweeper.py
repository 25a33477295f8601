"""Hydra accepts a sweeper only from this package, and imports it at each start: the study itself loads later."""

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """Runs a multirun as an Optuna study."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook before `sweep`; a study's trials have a task of their own."""
        self._study: tuple[HydraContext, DictConfig] = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Run the study that the overrides `arguments` ask for."""
        from sweeps.study.study import run_study

        run_study(*self._study, arguments)
