"""The most weights that a space allows a trial's model."""

from collections.abc import Callable

from sweeps.errors import RequestError
from sweeps.search.space import Setting, Space
from sweeps.study.jobs import Jobs
from sweeps.task.run_config import read_run_config


def weight_limit(space: Space, jobs: Jobs) -> Callable[[Setting], bool]:
    """A function that says whether a setting's model has no more weights than the space allows."""
    most = space.most_parameters
    if most is None:
        return lambda setting: True

    def allows(setting: Setting) -> bool:
        try:
            run = read_run_config(jobs.compose(setting))
        except RequestError:  # the trial will say what is wrong
            return True
        return run.task.parameters() <= most

    return allows
