"""The most weights that a space allows a trial's model."""

from collections.abc import Callable

from makemore.ngram import NgramConfig
from sweeps.config.reading import read_run_config
from sweeps.errors import RequestError
from sweeps.search.space import Setting, Space
from sweeps.study.jobs import Jobs
from sweeps.task.language_model.sources import load_source


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
        if isinstance(run.model, NgramConfig):
            raise RequestError(
                f"space.constraints.parameters is {most}; with model=ngram it must be null: what is counted follows "
                "from the words"
            )
        return run.model.parameters(load_source(run.data).alphabet.vocab_size) <= most

    return allows
