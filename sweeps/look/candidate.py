"""A study's winner, checked before a look is claimed: its weights and its dev loss must be the recorded ones."""

import math
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from makemore.train import one_thread
from sweeps.errors import RequestError
from sweeps.reports.recorded import load_recorded
from sweeps.reports.studies import read_study
from sweeps.study.runs import item_losses
from sweeps.task.items import Items, deal_items, groups_of, read_items
from sweeps.task.recorded import RecordedRun
from sweeps.task.run_config import RunConfig
from sweeps.task.task import Trained
from sweeps.task.weights import digest_weights
from sweeps.tracking.queries import find_study_run
from sweeps.tracking.store import TrackingStore
from sweeps.trials.attributes import ASKED, WEIGHTS_DEV_LOSS
from sweeps.trials.confirm import ConfirmConfig, confirming_runs, study_winner
from sweeps.trials.standing import Standing
from sweeps.trials.trials import Trials
from sweeps.trials.winner import Confirmation

_TOLERANCE = 1e-6  # the recorded dev loss may differ this much (in the task's unit): machines round differently


@dataclass(frozen=True)
class Candidate:
    """A study's winner whose weights have the recorded digest and dev loss."""

    study: str
    trial: FrozenTrial
    confirmations: list[Confirmation]
    config_hash: str
    run: RunConfig
    trained: Trained
    everything: tuple[str, ...]  # all items as they were read, once: the look evaluates what was proved
    items: Items
    standing: Standing
    confirming_runs: list[dict[str, Any]]  # of the winner: run_id, seed and weights_digest of each

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each item; None if each item is its own group."""
        return groups_of(self.run.task, self.everything)

    @property
    def binding(self) -> dict[str, Any]:
        """The facts that a claim fixes; a claim can be completed only while all of them are the same."""
        split = self.items.split
        return {
            "study": self.study,
            "trial": self.trial.number,
            "run_id": self.trial.user_attrs["run_id"],
            "weights_digest": self.trial.user_attrs["weights_digest"],
            "confirming_runs": self.confirming_runs,
            "config_hash": self.config_hash,
            "dev_loss": self.trial.value,
            "source": self.items.name,
            "source_digest": split.source_digest,
            "split_digest": split.fingerprint("test"),
            "split": split.rule,
            "split_seed": split.seed,
        }


def find_candidate(store: TrackingStore, trials: Trials, confirm: Trials | None, unfinished: bool = False) -> Candidate:
    """The study's winner by the rule that the study was started with.

    Args:
        confirm: the trials that confirm the best ones; None if none was started.
        unfinished: whether a study will do whose sweep was stopped before its last trial.

    Raises:
        RequestError: the study has no winner yet or trials are running; or the winner's weights, dev loss or items
            are not the recorded ones.
    """
    name = trials.name
    with trials.alone() as standing:  # a trial whose worker was killed does not count as running for ever
        check_idle(name, standing)
    identity: dict[str, str] = trials.study.user_attrs.get("identity", {})
    if "confirm.top" not in identity:
        raise RequestError(
            f"study.name is {name}; the study does not record how its winner is chosen, so makemore sweep did not "
            "make it"
        )
    rule = ConfirmConfig(int(identity["confirm.top"]), int(identity["confirm.seeds"]))
    winner, confirmations = study_winner(standing, confirm.standing() if confirm else None, rule)
    if winner is None:
        raise RequestError(
            f"study.name is {name}; no trial of it is complete, so there is no winner: continue it with makemore sweep"
        )
    if not unfinished:
        _check_finished(store, trials, standing)
    if rule.top and not confirmations and not unfinished:
        raise RequestError(
            f"study.name is {name}; its best trials are not confirmed yet, so there is no winner: continue it with "
            "makemore sweep"
        )
    trial = standing.trials[winner.number]
    recorded = read_study(store, name).winner
    if recorded is None or recorded.run_id != trial.user_attrs["run_id"]:
        raise RequestError(
            f"study.name is {name}; its winner is trial {trial.number} in study.storage, but another trial or none in "
            "tracking.uri: give the two databases that the study was run with"
        )
    run_id = recorded.run_id
    recorded_run = load_checked(store, name, run_id, trial.user_attrs["weights_digest"])
    run, trained = recorded_run.config, recorded_run.trained
    if why := run.task.why_no_look(trained):
        raise RequestError(f"study.name is {name}; {why}: give a study whose winner certainly has a finite test loss")
    everything = read_items(run.task)
    items = deal_items(run.task, run.split, everything)
    if any(items.split.fingerprint(part) != identity[f"data {part}"] for part in ("train", "dev")):
        where = items.path or items.name
        raise RequestError(f"study.name is {name}; {where} is not the list of {run.task.item}s that it was made with")
    with one_thread():
        losses, terms = item_losses(run.task, trained, items.split.dev)
    dev_loss = float(losses.sum() / terms.sum())
    recorded_loss = trial.user_attrs.get(WEIGHTS_DEV_LOSS, trial.values[0])
    if not math.isclose(dev_loss, recorded_loss, abs_tol=_TOLERANCE):
        raise RequestError(
            f"study.name is {name}; the weights of run {run_id} have dev loss {dev_loss:.6f}, but "
            f"{recorded_loss:.6f} is recorded: they are not the winner's"
        )
    if not math.isclose(recorded.best_dev_loss, trial.values[0], abs_tol=_TOLERANCE):
        raise RequestError(
            f"study.name is {name}; its winner's dev loss is {trial.values[0]:.6f} in study.storage, but "
            f"{recorded.best_dev_loss:.6f} in tracking.uri: one of them was altered"
        )
    confirming = []
    if confirm and confirmations and math.isfinite(confirmations[0].mean):  # all seeds of the winner were trained
        confirming = confirming_runs(confirm.standing(), trial.number)
    return Candidate(
        name, trial, confirmations, recorded.tags["config_hash"], run, trained, everything, items, standing, confirming
    )


def load_checked(store: TrackingStore, study: str, run_id: str, digest: str) -> RecordedRun:
    """A recorded run whose weights have the digest that the study's database has.

    Raises:
        RequestError: the weights are gone, or are not those that were recorded.
    """
    recorded = load_recorded(store, run_id)
    if digest_weights(recorded.trained.module.state_dict()) != digest:
        raise RequestError(
            f"study.name is {study}; the weights of run {run_id} are not those that were recorded: altered since"
        )
    return recorded


def _check_finished(store: TrackingStore, trials: Trials, standing: Standing) -> None:
    """Raise RequestError if the study's sweep was stopped before it had all the trials that it was to have."""
    asked = trials.study.user_attrs.get(ASKED)
    parent = find_study_run(store, trials.name)
    if asked is not None and standing.finished < asked and parent is not None and parent.status != "FINISHED":
        raise RequestError(
            f"study.name is {trials.name}; its sweep was stopped at {standing.finished} of {asked} trials: continue it "
            "with makemore sweep, or look at the best so far with final_test.unfinished=true"
        )


def check_idle(name: str, standing: Standing) -> None:
    """Raise RequestError while trials of the study are running."""
    if standing.running:
        raise RequestError(
            f"study.name is {name}; {standing.running} of its trials are running: wait until makemore sweep has ended; "
            "a trial whose worker was killed counts as running for at most 20 seconds"
        )
