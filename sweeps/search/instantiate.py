"""Optuna's samplers and pruners made from config nodes."""

import warnings
from collections.abc import Callable
from typing import TypeVar

from hydra.errors import HydraException
from optuna.exceptions import ExperimentalWarning

from sweeps.config.messages import one_line
from sweeps.errors import RequestError

Made = TypeVar("Made")


def make_checked(group: str, make: Callable[[], Made]) -> Made:
    """What `make` makes of the config node of a group.

    Raises:
        RequestError: arguments that cannot be.
    """
    try:
        return without_warnings(make)
    except (HydraException, ImportError, TypeError, ValueError) as error:
        raise RequestError(f"{group} cannot be made: {one_line(error)} (conf/{group}/ has the defaults)") from None


def without_warnings(make: Callable[[], Made]) -> Made:
    """What `make` makes, without Optuna's warnings that it is experimental: the config chose it knowingly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make()
