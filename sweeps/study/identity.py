"""What makes two calls the same study, checked before anything starts."""

from dataclasses import dataclass

from hydra.errors import HydraException

from sweeps.config.messages import one_line
from sweeps.errors import RequestError
from sweeps.search.space import Space, corners
from sweeps.study.jobs import Jobs
from sweeps.task.items import Items
from sweeps.task.run_config import check_overrides, read_run_config
from sweeps.trials.confirm import ConfirmConfig


@dataclass(frozen=True)
class Identity:
    """Objective, space, fixed params and the items' fingerprints of a study, each under a name for messages."""

    items: Items
    record: dict[str, str]

    def difference(self, recorded: dict[str, str]) -> str:
        """What differs from a recorded identity, in words; empty if nothing does."""
        mine = self.record
        keys = sorted(key for key in mine.keys() | recorded.keys() if mine.get(key) != recorded.get(key))
        return "; ".join(f"{key} was {recorded.get(key, 'absent')}, is {mine.get(key, 'absent')}" for key in keys)


def identify(jobs: Jobs, space: Space, confirm: ConfirmConfig) -> Identity:
    """Compose jobs from the corners of a space, check them, and say what they have in common.

    Raises:
        RequestError: a key that does not exist, a value of the space that no run accepts, or data that cannot be had.
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
        if not all(key in one for one, setting in zip(params, settings, strict=True) if key in setting):
            raise RequestError(f"{key} cannot be searched; the keys of a run can: {', '.join(params[0])}")
    dealt = [run.deal_items() for run in runs]
    items = dealt[0]
    same = all(other.split.fingerprint("dev") == items.split.fingerprint("dev") for other in dealt)
    if not same or any(key.partition(".")[0] == "data" for key in space.distributions):
        noun = runs[0].task.item
        raise RequestError(f"data cannot be searched: losses on different {noun}s do not compare; use a study for each")
    # The rule by which the winner is chosen is known before the first trial.
    record = {"objective": "dev_loss", "of equal winners": "the first trial"}
    record |= {"confirm.top": str(confirm.top), "confirm.seeds": str(confirm.seeds)}
    record |= {f"data {part}": items.split.fingerprint(part) for part in ("train", "dev")}
    record |= space.describe()
    # A trial may choose among groups with other keys; what all of them share and the space leaves alone is fixed.
    # For a user's file the content counts, not where it lies.
    for key, value in params[0].items():
        if key not in space.distributions and key != "data.path" and all(one.get(key) == value for one in params):
            record[key] = str(value)
    return Identity(items, record)
