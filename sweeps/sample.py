"""New words from a study's winner, or from a run."""

from omegaconf import DictConfig, OmegaConf

from makemore.limits import LimitError
from makemore.sample import sample_words
from makemore.train import generator_for
from sweeps.compare import find_study, find_winner
from sweeps.config import read_run_config
from sweeps.errors import RequestError
from sweeps.sources import load_source
from sweeps.tracking import open_tracking
from sweeps.weights import load_weights


def sample(cfg: DictConfig) -> str:
    """What `makemore sample` prints: words, one a line, then how many of them are new.

    Raises:
        RequestError: no such run or study, or a value outside its range.
    """
    for key, kinds in (("n", (int,)), ("temperature", (int, float)), ("seed", (int,))):
        if type(cfg[key]) not in kinds:
            raise RequestError(f"{key} is {cfg[key]!r}; it must be {'an integer' if kinds == (int,) else 'a number'}")
    if cfg.seed < 0:
        raise RequestError(f"seed is {cfg.seed}; it must be >= 0")
    store = open_tracking(cfg.tracking)
    run_id = cfg.run
    if run_id is None:
        study, runs = find_study(store, cfg.study.name)
        winner = find_winner(runs)
        if winner is None:
            raise RequestError(f"study.name is {study}; no trial of it is complete yet: wait, or makemore sweep on")
        run_id = str(winner["run_id"])
    else:
        store.run_tags(run_id)
    saved = load_weights(store.fetch_artifact(run_id, "weights.safetensors"))
    run = read_run_config(OmegaConf.load(store.fetch_artifact(run_id, "config.yaml")))  # type: ignore[arg-type]
    generator = generator_for(cfg.seed, "samples")
    try:
        words = sample_words(saved.model, saved.alphabet, run.model.block_size, cfg.n, generator, cfg.temperature)
    except LimitError as error:
        raise RequestError(str(error)) from None
    known = set(load_source(run.data).split.train)
    new = sum(word not in known for word in words)
    return "\n".join([*words, f"({new} of {len(words)} are not among the training words)"])
