"""`makemore sample`: new items from a study's winner, or from a run."""

from dataclasses import dataclass

from omegaconf import DictConfig

from makemore.limits import check
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.reports.recorded import load_recorded
from sweeps.reports.studies import find_study
from sweeps.task.recorded import RecordedRun
from sweeps.tracking.queries import find_runs
from sweeps.tracking.store import open_tracking


@dataclass(frozen=True)
class SampleConfig:
    """The keys of `makemore sample`: how many items of which run, and how they are drawn."""

    run: str | None
    n: int
    temperature: float
    seed: int
    prefix: str

    def __post_init__(self) -> None:
        check("n", self.n, low=1, high=10_000_000)
        check("temperature", self.temperature, low=1e-6, high=1e6)
        check("seed", self.seed, low=0)


def sample(cfg: DictConfig) -> str:
    """The text that `makemore sample` prints: one item per line, then how many of them are new.

    Raises:
        RequestError: no such run or study exists, or a value is outside its range.
    """
    config: SampleConfig = read_node(SampleConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    run_id = config.run
    if run_id is None:
        study = find_study(store, cfg.study.name)
        if study.winner is None:
            raise RequestError(
                f"study.name is {study.name}; no trial of it is complete yet: wait, or continue it with makemore sweep"
            )
        run_id = study.winner.run_id
    else:
        run_id = find_runs(store, [run_id], "run is")[0].run_id
    recorded = load_recorded(store, run_id)
    task, trained = recorded.config.task, recorded.trained
    drawn = task.sample(trained, config.n, config.temperature, config.seed, config.prefix)
    return "\n".join(_mark_known(drawn, recorded))


def _mark_known(drawn: list[str], recorded: RecordedRun) -> list[str]:
    """The samples, with those in train marked, and a last line that says how many are new, if the list is at hand."""
    item = recorded.config.task.item
    try:
        split = recorded.config.deal_items().split
    except RequestError as error:
        return [*drawn, f"(which of them are new cannot be said: {error})"]
    if split.fingerprint("train") != recorded.trained.train_fingerprint:
        return [*drawn, f"(which of them are new cannot be said: the list of {item}s has changed since)"]
    known = set(split.train)
    new = sum(sample not in known for sample in drawn)
    marked = [f"{sample}  (in train)" if sample in known else sample for sample in drawn]
    return [*marked, f"({new} of {len(drawn)} are not among the training {item}s)"]
