"""Hydra accepts a sweeper only from this package, and imports it at each start: the study itself loads later."""

from collections.abc import Callable
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """Runs a multirun as an Optuna study."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook before `sweep`."""
        self._study: tuple[HydraContext, Callable[..., Any], DictConfig] = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Run the study that the overrides `arguments` ask for."""
        from sweeps.study import run_study

        run_study(*self._study, arguments)
