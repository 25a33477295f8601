"""The one look at the test split: claimed before it is read, for weights that are proved to be the winner's.

The only module that opens the door to the test split. The steps, each durable before the next begins:

1. the claim, a row under unique keys in the study's database, binds the split, its source, and the winner's weights;
2. only then are the words read and evaluated, and the result is written to the same database;
3. copies of it go to an MLflow run and the model registry.

Killed after any of them, the same command goes on from there, for the same weights.
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from makemore import held_out
from makemore.bootstrap import intervals
from makemore.data import read_words
from makemore.evaluate import mean_loss, word_losses
from makemore.ngram import Ngram, NgramConfig
from makemore.train import one_thread
from sweeps.config.reading import DataConfig, check_study_name, one_line, read_node
from sweeps.databases import locked, resolve_url
from sweeps.errors import RequestError, TestSplitAlreadyUsed
from sweeps.look.record import ATTEMPT, RESULT, Claimed, Looks, Record
from sweeps.look.report import as_text, check_format, draw, lost_looks
from sweeps.reports.leaderboard import find_confirmations, find_winner
from sweeps.task.language_model.sources import Source, load_corpus, load_source
from sweeps.task.language_model.weights import SavedModel, digest_weights, load_weights
from sweeps.tracking.store import TrackingStore, open_tracking, version_tags
from sweeps.trials.confirm import ConfirmConfig, confirm_study_name, confirmations
from sweeps.trials.seal import CLAIM
from sweeps.trials.standing import Standing
from sweeps.trials.trials import Trials, open_trials

_TOLERANCE = 1e-6  # nats, between the dev loss recorded and computed again: another machine rounds otherwise
_SMOOTHING = [10 ** (power / 8) for power in range(-24, 17)]  # tried on dev for each order, from 0.001 to 100
_ORDERS = (2, 3, 4)


@dataclass(frozen=True)
class LookConfig:
    """Whether to ask first, and why another look is needed."""

    confirm: bool
    reason: str | None


@dataclass(frozen=True)
class FinalTestConfig:
    """What the command takes."""

    final_test: LookConfig
    format: str

    def __post_init__(self) -> None:
        check_format(self.format)


@dataclass(frozen=True)
class Candidate:
    """A study's winner, proved: its weights have the digest and the dev loss that were recorded."""

    study: str
    trial: FrozenTrial
    confirmed: pd.DataFrame
    config_hash: str
    saved: SavedModel
    data: DataConfig
    source: Source

    @property
    def binding(self) -> dict[str, Any]:
        """What a claim binds, and what must be the same when it is completed."""
        split = self.source.split
        return {
            "study": self.study,
            "trial": self.trial.number,
            "run_id": self.trial.user_attrs["run_id"],
            "weights_digest": self.trial.user_attrs["weights_digest"],
            "config_hash": self.config_hash,
            "dev_loss": self.trial.value,
            "source": self.source.name,
            "source_digest": split.source_digest,
            "split_digest": split.fingerprint("test"),
            "split": split.rule,
            "split_seed": split.seed,
        }


def final_test(cfg: DictConfig) -> str:
    """What `makemore final-test` prints.

    Raises:
        RequestError: nothing was spent.
        TestSplitAlreadyUsed: the look was taken before; with the recorded result.
    """
    config: FinalTestConfig = read_node(FinalTestConfig, cfg, "")
    name = cfg.study.name
    if name is None:
        raise RequestError("study.name is not given; a look is for one study: study.name=NAME (see makemore compare)")
    check_study_name(str(name))
    url = resolve_url("study.storage", cfg.study.storage, table="studies", must_exist=True)
    store = open_tracking(cfg, create=False)
    trials = open_trials(str(name), url, create=False)
    confirm = open_trials(confirm_study_name(trials.name), url)
    looks = Looks(url)
    if not config.final_test.confirm and not _has(looks, trials.name, CLAIM):
        candidate = _find_candidate(store, trials, confirm)
        _check_earlier(config, looks, store, candidate)
        _ask(looks, candidate)
    with locked(url, "looks"):  # who comes second waits here until the first has ended, or died
        return _look(config, looks, store, trials, confirm)


def _look(config: FinalTestConfig, looks: Looks, store: TrackingStore, trials: Trials, confirm: Trials) -> str:
    name = trials.name
    if not _has(looks, name, RESULT):
        candidate = _find_candidate(store, trials, confirm)
        with trials.alone() as standing:  # no trial begins between this check and the claim
            _check_idle(name, standing)
            claim = _claim(config, looks, store, candidate)
        _record_result(looks, candidate, claim)
        new = True
    else:
        new = False
    shown = show(looks, name, config.format)
    try:
        _copy(looks, store, name)
    except Exception as error:  # whatever it is, what was seen is to be shown
        print(
            f"makemore: the result is recorded in study.storage, but not yet copied to MLflow ({one_line(error)}); "
            "the same command adds what is missing",
            file=sys.stderr,
        )
    if new:
        return shown
    raise TestSplitAlreadyUsed(shown)


def _has(looks: Looks, study: str, kind: str) -> bool:
    return any(record.kind == kind for record in looks.records(study))


def _find_candidate(store: TrackingStore, trials: Trials, confirm: Trials) -> Candidate:
    """The study's winner by the rule that it was started with.

    Raises:
        RequestError: it has none yet, or what is recorded of it does not agree with its weights.
    """
    name, standing = trials.name, trials.standing()
    _check_idle(name, standing)
    identity: dict[str, str] = trials.study.user_attrs.get("identity", {})
    if "confirm.top" not in identity:
        raise RequestError(
            f"study.name is {name}; it does not say how its winner is chosen: makemore sweep made others"
        )
    rule = ConfirmConfig(int(identity["confirm.top"]), int(identity["confirm.seeds"]))
    if not standing.ranking:
        raise RequestError(
            f"study.name is {name}; no trial of it is complete, so there is no winner: makemore sweep on"
        )
    confirmed = confirmations(_frame(standing), _frame(confirm.standing(), "confirms"), rule)
    if rule.top and confirmed.empty:
        raise RequestError(
            f"study.name is {name}; its best trials are not confirmed yet, so there is no winner: makemore sweep on"
        )
    trial = standing.trials[int(confirmed["trial"].iloc[0])] if rule.top else standing.ranking[0]
    runs = store.study_runs(name)
    recorded = None if runs.empty else find_winner(runs, find_confirmations(store, name, runs))
    if recorded is None or recorded["run_id"] != trial.user_attrs["run_id"]:
        raise RequestError(
            f"study.name is {name}; by study.storage its winner is trial {trial.number}, by tracking.uri another or "
            "none: give the records that the study was made with"
        )
    run_id = str(recorded["run_id"])
    saved = load_weights(store.fetch_artifact(run_id, "weights.safetensors"))
    if digest_weights(saved.model.state_dict()) != trial.user_attrs["weights_digest"]:
        raise RequestError(
            f"study.name is {name}; the weights of run {run_id} are not those that were recorded: altered"
        )
    if isinstance(saved.model, Ngram) and saved.model.config.amount[1] == 0:
        key = saved.model.config.amount[0]
        raise RequestError(
            f"study.name is {name}; its winner's model.{key} is 0, so that its test loss may be infinite: give a study "
            f"with model.{key} above 0"
        )
    data = _read_data(store.fetch_artifact(run_id, "config.yaml"))
    source = load_source(data)
    if any(source.split.fingerprint(part) != identity[f"data {part}"] for part in ("train", "dev")):
        raise RequestError(f"study.name is {name}; {source.path} is not the list of words that it was made with")
    with one_thread():
        dev_loss = mean_loss(saved.model, load_corpus(data, saved.model.config.block_size).dev_contexts)
    if not math.isclose(dev_loss, trial.values[0], abs_tol=_TOLERANCE):
        raise RequestError(
            f"study.name is {name}; the weights of run {run_id} have dev loss {dev_loss:.6f}, recorded is "
            f"{trial.values[0]:.6f}: they are not the winner's"
        )
    return Candidate(name, trial, confirmed, str(recorded["config_hash"]), saved, data, source)


def _read_data(path: Path) -> DataConfig:
    config: DataConfig = read_node(DataConfig, OmegaConf.load(path), "data")  # type: ignore[arg-type]
    return config


def _frame(standing: Standing, number: str | None = None) -> pd.DataFrame:
    """Trials with the columns of MLflow's table; `number` is the attribute that names the trial they are of."""
    rows = [
        {
            "trial": trial.user_attrs[number] if number else trial.number,
            "state": trial.state.name,
            "best_dev_loss": trial.values[0] if trial.state == TrialState.COMPLETE else math.nan,
        }
        for trial in standing.trials
    ]
    return pd.DataFrame(rows, columns=["trial", "state", "best_dev_loss"])


def _check_idle(name: str, standing: Standing) -> None:
    if standing.running:
        raise RequestError(
            f"study.name is {name}; {standing.running} of its trials are running: wait until makemore sweep has ended"
        )


def _check_earlier(config: FinalTestConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> None:
    """What was seen of the source before.

    Raises:
        RequestError: it has been looked at, and no reason is given for another look; or MLflow has a look at it that
            the database has lost.
    """
    mine = candidate.source.split.source_digest
    lost = [one for one in lost_looks(store, looks.records()) if one["source_digest"] == mine]
    if lost:
        raise RequestError(
            f"study.name is {candidate.study}; tracking.uri has a look at its words for study {lost[0]['study']} that "
            "study.storage lacks: give the database that it was recorded in (see makemore looks)"
        )
    earlier = _earlier(looks, candidate)
    if not earlier or (config.final_test.reason or "").strip():
        return
    words, split = read_words(candidate.source.path, candidate.data.boundary), candidate.source.split
    listed = []
    for claim in earlier:
        one = claim.content
        share = held_out.share_of(words, split.rule, split.seed, one["split"], one["split_seed"])
        listed.append(
            f"look {one['look']} by {one['who']} on {one['when']} for study {one['study']}, which saw {share:.0%} of "
            "this test split"
        )
    raise RequestError(
        f"study.name is {candidate.study}; its words have been looked at: {'; '.join(listed)}; another look needs "
        'final_test.reason="..." and is counted'
    )


def _earlier(looks: Looks, candidate: Candidate) -> list[Record]:
    """The claims of other studies on the same source."""
    claims = looks.claims_of(candidate.source.split.source_digest)
    return [claim for claim in claims if claim.content["study"] != candidate.study]


def _ask(looks: Looks, candidate: Candidate) -> None:
    """Say what is about to be spent, and ask.

    Raises:
        RequestError: the answer is no, or nobody is there to give it.
    """
    one, number = candidate.binding, len(_earlier(looks, candidate)) + 1
    if not sys.stdin.isatty():
        raise RequestError(
            "final_test.confirm is false; without a terminal to ask at it must be true: the look is spent"
        )
    print(
        f"The test split of {one['source']} ({one['split']}, seed {one['split_seed']}, {one['split_digest'][:12]}) is "
        f"going to be looked at, once:\nlook {number} at these words, for study {one['study']}, whose winner is trial "
        f"{one['trial']} with dev loss {one['dev_loss']:.4f} (computed again from its weights: equal).\n"
        "The study takes no more trials afterwards.",
        file=sys.stderr,
    )
    if input("Look? Type yes: ").strip().lower() != "yes":
        raise RequestError("final_test.confirm is false, and the answer was not yes: nothing was looked at")


def _claim(config: FinalTestConfig, looks: Looks, store: TrackingStore, candidate: Candidate) -> Record:
    """The claim of this look: a new one, or the one whose evaluation died, if it is for the same weights.

    Raises:
        RequestError: the claim is for other weights, or there has been another look since it was asked for.
    """
    found = [record for record in looks.records(candidate.study) if record.kind in (CLAIM, ATTEMPT)]
    if found:
        claim = found[0]
        differing = [key for key, value in candidate.binding.items() if claim.content[key] != value]
        if differing:
            raise RequestError(
                f"study.name is {candidate.study}; its look was claimed for {differing[0]} "
                f"{claim.content[differing[0]]}, which now is {candidate.binding[differing[0]]}: "
                "only the same can be completed"
            )
        looks.attempt({"study": candidate.study, "attempt": len(found) + 1})
        return claim
    _check_earlier(config, looks, store, candidate)  # another may have looked while this one was asked for
    number = len(_earlier(looks, candidate)) + 1
    reason = (config.final_test.reason or "").strip() or None
    content = {**candidate.binding, "look": number, "reason": reason, "versions": version_tags()}
    try:
        return looks.claim(content)
    except Claimed:  # the lock forbids it; if it fails, the unique keys hold
        raise RequestError(f"study.name is {candidate.study}; another process has just claimed this look") from None
    except SQLAlchemyError as error:
        why = str(error).splitlines()[0]
        raise RequestError(
            f"study.storage cannot be written ({why}), so the look is not taken; mend it first"
        ) from None


def _record_result(looks: Looks, candidate: Candidate, claim: Record) -> None:
    """Read the test split, evaluate, and write down what was seen."""
    source = candidate.source
    words = held_out.read_test_words(
        read_words(source.path, candidate.data.boundary), source.split.rule, source.split.seed
    )
    with one_thread():
        result = evaluate(candidate, words)
    attempts = sum(record.kind in (CLAIM, ATTEMPT) for record in looks.records(candidate.study))
    looks.result({"study": candidate.study, "claim": claim.hash, "attempts": attempts, **result})


def evaluate(candidate: Candidate, words: list[str]) -> dict[str, Any]:
    """All that one look can say: losses in nats per character, with 95 % intervals over words."""
    alphabet, split = candidate.source.alphabet, candidate.source.split
    losses, characters = word_losses(candidate.saved.model, words, alphabet, candidate.saved.model.config.block_size)
    test_loss = float(losses.sum() / characters.sum())
    baselines = _baselines(candidate, words, characters)
    differences = [other - losses for _, _, other in baselines]
    (low, high), *paired = intervals(torch.stack([losses, *differences], dim=1), characters, _generator())
    known = set(split.train)
    fresh = torch.tensor([word not in known for word in words])
    confirmed = candidate.confirmed
    too_good = float(confirmed["too_good"].iloc[0]) if len(confirmed) else None
    return {
        "test_loss": test_loss,
        "test_loss_low": low,
        "test_loss_high": high,
        "perplexity": math.exp(test_loss),
        "bits_per_character": test_loss / math.log(2),
        "words": len(words),
        "characters": int(characters.sum()),
        "dev_loss": candidate.trial.value,
        "gap": test_loss - candidate.trial.values[0],
        "selection": too_good,
        "words_also_in_train": int((~fresh).sum()),
        "test_loss_without_them": float(losses[fresh].sum() / characters[fresh].sum()) if fresh.any() else None,
        "baselines": [
            {
                "name": name,
                "smoothing": smoothing,
                "test_loss": float(other.sum() / characters.sum()),
                "difference": float((other - losses).sum() / characters.sum()),
                "low": one_low,
                "high": one_high,
            }
            for (name, smoothing, other), (one_low, one_high) in zip(baselines, paired, strict=True)
        ],
    }


def _baselines(candidate: Candidate, words: list[str], characters: Tensor) -> list[tuple[str, float | None, Tensor]]:
    """Name, smoothing and word losses of guessing, and of counted n-grams with the smoothing that is best on dev."""
    alphabet = candidate.source.alphabet
    found: list[tuple[str, float | None, Tensor]] = [("uniform", None, characters * math.log(alphabet.vocab_size))]
    for order in _ORDERS:
        corpus = load_corpus(candidate.data, order - 1)
        configs = [NgramConfig(order, "additive", smoothing, discount=0.0) for smoothing in _SMOOTHING]
        models = (Ngram.fit(config, corpus.train_contexts) for config in configs)
        best = min(models, key=lambda model: mean_loss(model, corpus.dev_contexts))
        losses, _ = word_losses(best, words, alphabet, order - 1)
        found.append((f"{order}-gram counts", best.config.smoothing, losses))
    return found


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)  # the same weights have the same interval


def show(looks: Looks, study: str, form: str) -> str:
    """The recorded look of a study, as text or JSON."""
    claim, result = look_of(looks, study)
    if form == "json":
        return json.dumps({**result.content, **claim.content}, indent=2)
    return as_text(claim.content, result.content, looks.claims_of(claim.content["source_digest"]))


def look_of(looks: Looks, study: str) -> tuple[Record, Record]:
    """The claim and the result of a study that has both."""
    records = looks.records(study)
    return (
        next(record for record in records if record.kind == CLAIM),
        next(record for record in records if record.kind == RESULT),
    )


def _copy(looks: Looks, store: TrackingStore, study: str) -> None:
    """Copies of the result in MLflow: a run under the study, and the winner in the registry; what is there is kept."""
    claim, result = look_of(looks, study)
    text = as_text(claim.content, result.content, looks.claims_of(claim.content["source_digest"]))
    store.log_look(claim.content, result.content, {"report.md": text}, draw(claim.content, result.content))
    store.register_champion(claim.content, result.content)
