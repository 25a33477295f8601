"""Optuna's CMA-ES sampler, whose state in the study's storage is read without running what it names."""

import io
import pickle
from typing import Any

import cmaes
import numpy as np
import optuna
from optuna.trial import FrozenTrial

from sweeps.errors import RequestError

_PART = ":optimizer:"  # cma:optimizer:0, sepcma:optimizer:0, cmawm:optimizer:1
_PARTS = (  # what the states of the three kinds of CMA-ES consist of
    *(cmaes.CMA, cmaes.SepCMA, cmaes.CMAwM, np.ndarray, np.dtype),
    *(value.__reduce_ex__(protocol)[0] for value in (np.zeros(1), np.float64(0)) for protocol in (2, 5)),
)
_ALLOWED = {(part.__module__, part.__qualname__) for part in _PARTS}


class CmaEsSampler(optuna.samplers.CmaEsSampler):
    """Optuna's sampler keeps its state as a pickle; here nothing is called that such a state has no need of."""

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {int(key.partition(_PART)[2]): text for key, text in trial.system_attrs.items() if _PART in key}
            if parts:
                state = "".join(parts[number] for number in sorted(parts))
                return _Reader(io.BytesIO(bytes.fromhex(state)), trial.number).load()
        return None


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, trial: int) -> None:
        super().__init__(file)
        self._trial = trial

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name, if a state of CMA-ES may name it."""
        if (module, name) not in _ALLOWED:
            raise RequestError(
                f"sampler=cmaes: its state in trial {self._trial} names {module}.{name}, which is none of its parts; "
                "somebody has changed the study's database: choose another sampler"
            )
        return super().find_class(module, name)
