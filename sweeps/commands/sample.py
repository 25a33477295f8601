"""New words from a study's winner, or from a run."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from makemore.limits import check
from makemore.sample import sample_words
from makemore.train import generator_for, one_thread
from sweeps.config.reading import DataConfig, read_node
from sweeps.errors import RequestError
from sweeps.reports.studies import find_study
from sweeps.task.language_model.sources import load_source
from sweeps.task.language_model.weights import SavedModel, load_weights
from sweeps.tracking.artifacts import fetch_artifact
from sweeps.tracking.queries import find_runs
from sweeps.tracking.store import open_tracking


@dataclass(frozen=True)
class SampleConfig:
    """How many words of which run, and how they are drawn."""

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
    """What `makemore sample` prints: words, one a line, then how many of them are new.

    Raises:
        RequestError: no such run or study, or a value outside its range.
    """
    config: SampleConfig = read_node(SampleConfig, cfg, "")
    store = open_tracking(cfg, create=False)
    run_id = config.run
    if run_id is None:
        study = find_study(store, cfg.study.name)
        if study.winner is None:
            raise RequestError(
                f"study.name is {study.name}; no trial of it is complete yet: wait, or makemore sweep on"
            )
        run_id = study.winner.run_id
    else:
        run_id = find_runs(store, [run_id], "run is")[0].run_id
    saved = load_weights(fetch_artifact(store, run_id, "weights.safetensors"))
    generator = generator_for(config.seed, "samples")
    block_size = saved.model.config.block_size
    for character in config.prefix:
        if character not in saved.alphabet.characters:
            raise RequestError(f"prefix is {config.prefix}; {character} is not one of {saved.alphabet.characters}")
    with one_thread():
        words = sample_words(
            saved.model, saved.alphabet, block_size, config.n, generator, config.temperature, prefix=config.prefix
        )
    return "\n".join(_mark_known(words, fetch_artifact(store, run_id, "config.yaml"), saved))


def _mark_known(words: list[str], config_file: Path, saved: SavedModel) -> list[str]:
    """The words, those marked that the model was trained on, and how many are new, where that can still be said."""
    try:
        split = load_source(read_node(DataConfig, OmegaConf.load(config_file), "data")).split  # type: ignore[arg-type]
    except RequestError as error:
        return [*words, f"(which of them are new cannot be said: {error})"]
    if split.fingerprint("train") != saved.train_fingerprint:
        return [*words, "(which of them are new cannot be said: the list of words has changed since)"]
    known = set(split.train)
    new = sum(word not in known for word in words)
    marked = [f"{word}  (in train)" if word in known else word for word in words]
    return [*marked, f"({new} of {len(words)} are not among the training words)"]
