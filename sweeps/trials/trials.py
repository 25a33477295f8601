"""The trials of a study, taken by any number of processes on any number of machines: no more than asked for, none lost.

Optuna's storage is all that the processes share. A process that takes a trial holds a lock of the study's database for
the few milliseconds in which dead trials are settled, the others counted and a new one opened; its setting is drawn
later.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import Connection

from sweeps.connections import patient, patiently
from sweeps.databases import has_table, hide_password, locked
from sweeps.errors import RequestError
from sweeps.trials.attributes import TAKEN_FROM, WORKER, WORKER_DIED
from sweeps.trials.dead import mark_failed, settle_dead_trials
from sweeps.trials.seal import LOOKS, create_looks, read_seal
from sweeps.trials.standing import Standing
from sweeps.trials.storage import (
    BEAT_SECONDS,
    UNUSABLE,
    beating,
    has_heard_beats,
    is_open,
    one_transaction,
    open_storage,
    unusable,
)


class GivenUp(Exception):
    """The trial was marked as failed, though its worker lives: its process stood still for too long."""


class Trials:
    """The trials of one study in its storage."""

    def __init__(
        self,
        url: str,
        name: str,
        sampler: BaseSampler | None = None,
        pruner: BasePruner | None = None,
        create: bool = True,
    ) -> None:
        """Open the study.

        Args:
            create: whether a study that does not exist is made; if not, nothing is written.

        Raises:
            KeyError: there is no such study, and none was to be made.
        """
        self.url, self.name = url, name
        self._sampler, self._pruner = sampler, pruner
        self._transaction: Connection | None = None  # while alone in a PostgreSQL database
        self._looked = -math.inf  # when dead trials were last looked for
        self._undone = False  # whether what was done while alone may have been undone
        # Two processes that make one database at once break it.
        with locked(url, "schema") if create and not is_open(url) else nullcontext():
            self.storage = open_storage(url, create)
            if create:
                patiently(self._create)
        self._may_be_sealed = create or has_table(url, LOOKS.name)
        self.study = patiently(self._load)
        self.study_id = patiently(lambda: self.storage.get_study_id_from_name(name))

    def _create(self) -> None:
        optuna.create_study(study_name=self.name, storage=self.storage, direction="minimize", load_if_exists=True)
        create_looks(self.storage.engine)  # a database from before there were looks has no table of them

    def _load(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self.storage, sampler=self._sampler, pruner=self._pruner)

    @patient
    def standing(self) -> Standing:
        """How far the study is."""
        self._forget_what_was_undone()
        return Standing(self.study.get_trials(deepcopy=False))

    @contextmanager
    def alone(self) -> Iterator[Standing]:
        """While inside, no other process takes, queues or buries a trial; dead trials are settled before.

        On PostgreSQL, what is done inside is done as a whole or not at all.
        """
        purpose = f"study {self.name}"
        if self.storage.engine.dialect.name != "postgresql":
            with locked(self.url, purpose):
                yield settle_dead_trials(self.study)
            return
        self._forget_what_was_undone()
        self._undone = True
        with one_transaction(self.storage, purpose) as connection:
            self._transaction = connection
            try:
                yield settle_dead_trials(self.study, self._looks_for_dead(connection))
            finally:
                self._transaction = None
        self._undone = False

    def _looks_for_dead(self, connection: Connection) -> bool:
        """Whether to look for trials that beat no more: as often as they beat, for the others wait meanwhile."""
        if time.monotonic() - self._looked < BEAT_SECONDS:
            return False
        self._looked = time.monotonic()
        return has_heard_beats(connection)

    def _forget_what_was_undone(self) -> None:
        """Load the study again if a transaction was undone: Optuna remembers the trials that it read in it."""
        if self._undone and self._transaction is None:
            self.study, self._undone = patiently(self._load), False

    @patient
    def take(self, worker: str, may_start: Callable[[Standing], bool]) -> tuple[Trial | None, Standing]:
        """A trial to run, queued or new, and how the study stood; no trial where `may_start` says so."""
        asked = time.monotonic()
        with self.alone() as standing:
            self.check_open()
            if not may_start(standing):
                return None, standing
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Optuna beats only in `optimize`; here, `beating` does
                trial = self.study.ask()
            self.storage.record_heartbeat(self._id(trial.number))
            trial.set_user_attr(WORKER, worker)  # last: a running trial without it was only half taken
        if (
            time.monotonic() - asked > BEAT_SECONDS / 2
        ):  # PostgreSQL dates the first beat to when the lock was asked for
            self.storage.record_heartbeat(self._id(trial.number))
        return trial, standing

    def check_open(self) -> None:
        """Raise RequestError if the test split has been looked at for the study's winner."""
        if self._may_be_sealed and (seal := read_seal(self._transaction or self.storage.engine, self.name)):
            raise RequestError(
                f"study.name is {self.name}; its winner's one look at the test split was taken by {seal.who} on "
                f"{seal.when}, so it takes no more trials; give another study.name"
            )

    def queue(self, setting: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
        """Queue a setting, which is tried before any that is drawn; only while alone."""
        self.study.enqueue_trial(setting, user_attrs=attributes)

    def take_over(self, trials: Iterable[FrozenTrial]) -> None:
        """Add trials of another study, for the sampler to learn from; only while alone."""
        known = {trial.user_attrs.get(TAKEN_FROM) for trial in self.study.get_trials(deepcopy=False)}
        self.study.add_trials(trial for trial in trials if trial.user_attrs[TAKEN_FROM] not in known)

    def report(self, trial: Trial, resource: int, dev_loss: float) -> bool:
        """Report a dev loss at a resource (1, 2, ...); whether the trial is to be pruned.

        Raises:
            GivenUp: the trial has been marked as failed.
        """
        try:
            patiently(lambda: trial.report(dev_loss, resource))
        except UpdateFinishedTrialError:
            raise GivenUp from None
        return patiently(trial.should_prune)

    def tell(
        self,
        trial: Trial,
        state: TrialState,
        dev_loss: float | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Tell how a trial ended. A pruned trial's dev loss is the last that was reported.

        Raises:
            GivenUp: it has been marked as failed before.
        """
        try:
            patiently(lambda: self._tell(trial, state, dev_loss, attributes or {}))
        except (UpdateFinishedTrialError, ValueError):  # how Optuna says that a trial has ended
            ended = self.standing().trials[trial.number].state
            if ended == state != TrialState.FAIL:  # this was told; the connection was lost before the answer came
                return
            if ended.is_finished():
                raise GivenUp from None
            raise

    def _tell(self, trial: Trial, state: TrialState, dev_loss: float | None, attributes: Mapping[str, object]) -> None:
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
        self.study.tell(trial, dev_loss, state)

    @patient
    def bury(self, worker: str) -> None:
        """Mark the running trials of a dead worker as failed."""
        with self.alone() as standing:
            for trial in standing.trials:
                if trial.state == TrialState.RUNNING and trial.user_attrs[WORKER] == worker:
                    try:
                        self.storage.set_trial_user_attr(self._id(trial.number), WORKER_DIED, True)
                    except UpdateFinishedTrialError:  # it ended after all
                        continue
                    mark_failed(self.study, trial)

    def beating(self, trial: Trial, seconds: float = BEAT_SECONDS) -> AbstractContextManager[None]:
        """While inside, the trial's heartbeat says that its worker lives."""
        return beating(self.storage, self._id(trial.number), seconds)

    def _id(self, number: int) -> int:
        """The storage's id of a trial."""
        return self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)


def open_trials(name: str, url: str, create: bool = True) -> Trials:
    """The trials of a study in the database of a resolved URL.

    Raises:
        RequestError: the database cannot be used, or there is no such study and none was to be made.
    """
    try:
        return Trials(url, name, create=create)
    except KeyError:
        raise RequestError(
            f"study.name is {name}; {hide_password(url)} has no such study: see makemore studies"
        ) from None
    except UNUSABLE as error:
        raise unusable(url, error) from None


def find_trials(name: str, url: str) -> Trials | None:
    """The trials of a study, or None if the database of the resolved URL has no such study; nothing is made.

    Raises:
        RequestError: the database cannot be used.
    """
    try:
        return Trials(url, name, create=False) if has_table(url, "studies") else None
    except KeyError:
        return None
    except UNUSABLE as error:
        raise unusable(url, error) from None
