"""The identity of a study: what two calls must share to be the same study. It is checked before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.errors import HydraException

from sweeps.config.messages import one_line
from sweeps.errors import RequestError, hide_passwords
from sweeps.search.space import Space, corners
from sweeps.study.jobs import Jobs
from sweeps.task.items import Items
from sweeps.task.run_config import check_overrides, read_run_config
from sweeps.trials.confirm import ConfirmConfig

_PARTS = ("train", "dev")


@dataclass(frozen=True)
class Identity:
    """A study's objective, space, fixed params and fingerprints of items, each under the name that messages use."""

    items: Items
    fixed: dict[str, str]  # the params that all runs have in common
    record: dict[str, str]

    def difference(self, recorded: dict[str, str]) -> str:
        """The differences from a recorded identity, as "KEY was A, is B; ..."; empty if there are none."""
        mine = self.record
        keys = self._differing(recorded)
        return "; ".join(f"{key} was {recorded.get(key, 'absent')}, is {mine.get(key, 'absent')}" for key in keys)

    def has_other_items(self, recorded: dict[str, str]) -> bool:
        """Whether a recorded identity differs in nothing but its items."""
        differing = self._differing(recorded)
        return bool(differing) and set(differing) <= {f"data {part}" for part in _PARTS}

    def _differing(self, recorded: dict[str, str]) -> list[str]:
        keys = self.record.keys() | recorded.keys()
        return sorted(key for key in keys if self.record.get(key) != recorded.get(key))


def identify(jobs: Jobs, space: Space, confirm: ConfirmConfig, seeds: Sequence[int]) -> Identity:
    """The identity of the study of a space: everything that the runs at the corners of the space have in common.

    Raises:
        RequestError: a key does not exist or cannot be searched, no run accepts a value of the space, or the items
            cannot be read.
    """
    settings = corners(space)
    runs = []
    for setting in settings:
        try:
            job_cfg = jobs.compose(setting)
        except HydraException as error:
            raise RequestError(one_line(error)) from None
        runs.append(read_run_config(job_cfg))
        runs[-1].check()
    check_overrides(runs[0], space.fixed)
    params = [run.params() for run in runs]
    for key in space.distributions:
        if not all(key in corner for corner, setting in zip(params, settings, strict=True) if key in setting):
            raise RequestError(f"{key} cannot be searched; the keys of a run can: {', '.join(params[0])}")
    dealt = [run.deal_items() for run in runs]
    items = dealt[0]
    same = all(other.split.fingerprint("dev") == items.split.fingerprint("dev") for other in dealt)
    if not same or any(key.partition(".")[0] == "data" for key in space.distributions):
        noun = runs[0].task.item
        raise RequestError(f"data cannot be searched: losses on different {noun}s do not compare; use a study for each")
    # The rule that chooses the winner must be fixed before the first trial.
    record = {"objective": "dev_loss", "of equal winners": "the first trial"}
    record |= {"confirm.top": str(confirm.top), "confirm.seeds": str(confirm.seeds)}
    record |= {f"data {part}": items.split.fingerprint(part) for part in _PARTS}
    record |= space.describe()
    # Groups that the space chooses among may have different keys; a key is fixed if all runs share its value.
    # Of a user's file, the content counts and not the path.
    fixed = {
        key: hide_passwords(str(value))
        for key, value in params[0].items()
        if key not in space.distributions and key != "data.path" and all(corner.get(key) == value for corner in params)
    }
    if len(seeds) > 1:
        fixed["seed"] = ", ".join(map(str, seeds))
    return Identity(items, fixed, record | fixed)
