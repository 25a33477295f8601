"""`makemore stop`: the running workers of a study end, wherever they run."""

import time
from dataclasses import dataclass

from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config.names import check_study_name
from sweeps.config.reading import read_node
from sweeps.databases import NoRecords, hide_password, resolve_url
from sweeps.errors import RequestError
from sweeps.trials.at_work import AtWork, at_work
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.stop import ask_to_stop
from sweeps.trials.trials import Trials, find_trials, open_trials

_POLL_SECONDS = 0.25


class StillAtWork(Exception):
    """Workers are still at their trials when the time to wait is over (exit code 1)."""


@dataclass(frozen=True)
class StopConfig:
    """The keys of `makemore stop`: how long to wait."""

    wait: float

    def __post_init__(self) -> None:
        check("wait", self.wait, low=0, high=86400)


def stop(cfg: DictConfig) -> str:
    """The line that `makemore stop` prints, after the workers have ended.

    Raises:
        RequestError: a value is wrong, or there is no such study.
        StillAtWork: some have not ended in time; they will at their next report.
    """
    config: StopConfig = read_node(StopConfig, cfg, "")
    if cfg.study.name is None:
        raise RequestError("study.name is null; it must name the study to stop: makemore studies lists all")
    name = str(cfg.study.name)
    check_study_name(name)
    try:
        url = resolve_url("study.storage", str(cfg.study.storage), table="studies", must_exist=True)
    except NoRecords:
        shown = hide_password(str(cfg.study.storage))
        raise RequestError(f"study.name is {name}; {shown} has no such study: see makemore studies") from None
    search = open_trials(name, url, create=False)
    confirm = find_trials(confirm_study_name(name), url)
    phases = [search, *([confirm] if confirm else [])]
    before = _not_silent(phases)
    ask_to_stop(search)
    if not before:
        return f"study {name}: no worker is at a trial; those that are about to start one will end instead"
    started = time.monotonic()
    while left := _not_silent(phases):
        if time.monotonic() - started >= config.wait:
            if config.wait == 0:
                return f"study {name}: {_count(left)} asked to end after the next report of their trials"
            listed = "; ".join(map(str, left))
            raise StillAtWork(
                f"study {name} was asked to stop {config.wait:g} seconds ago (wait={config.wait:g}), and workers end "
                f"after the next report of their trials; still at work: {listed}"
            )
        time.sleep(_POLL_SECONDS)
    return f"study {name}: {_count(before)} stopped; makemore sweep study.name={name} goes on"


def _not_silent(phases: list[Trials]) -> list[AtWork]:
    return [worker for worker in at_work(phases) if not worker.is_silent]


def _count(workers: list[AtWork]) -> str:
    number = len({worker.worker for worker in workers})
    return "1 worker was" if number == 1 else f"{number} workers were"
