"""The trials of a study, taken by any number of processes on any number of machines: no more than asked for, none lost.

Optuna's storage is all that they share. Whoever takes a trial holds a lock of the study's database for the few
milliseconds in which dead trials are found, the others counted and a new one opened; what it draws, it draws later.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sweeps.databases import hide_password, locked
from sweeps.errors import RequestError
from sweeps.look.record import Looks

optuna.logging.set_verbosity(optuna.logging.WARNING)

INTERRUPTED = "interrupted"
WARM_START = "warm_start"  # attribute: the name of the setting of the space's warm start that a trial tries
TASK = ("confirms", "seed", WARM_START)  # attributes that say what a queued trial is for
# Attributes that say why a trial is in its state, told before it. Whoever dies in between leaves a trial that will be
# failed: why it was to be pruned must not look like why it failed.
REASONS = {TrialState.FAIL: "reason", TrialState.PRUNED: "pruning_reason"}
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_BEAT_SECONDS = 5
_GRACE_SECONDS = 15  # without a beat, by the database's clock, until a trial is given up as dead
_ATTEMPTS = 3  # at a setting whose worker dies while the process that started it lives: it may be what kills them
_UNUSABLE = (SQLAlchemyError, StorageInternalError, ImportError, RuntimeError)  # what Optuna says of a bad database
_KILLED = "killed"  # attribute of a trial whose worker died so


@dataclass(frozen=True)
class Standing:
    """How far a study is: its trials, as of now."""

    trials: list[FrozenTrial]

    def count(self, *states: TrialState) -> int:
        """How many trials are in one of the states."""
        return sum(trial.state in states for trial in self.trials)

    @cached_property
    def finished(self) -> int:
        """Complete and pruned trials."""
        return self.count(*_FINISHED)

    @cached_property
    def running(self) -> int:
        """Trials at work."""
        return self.count(TrialState.RUNNING)

    @cached_property
    def failures(self) -> int:
        """Failed trials that are not tried again."""
        return sum(trial.state == TrialState.FAIL and not _to_retry(trial) for trial in self.trials)

    @cached_property
    def ranking(self) -> list[FrozenTrial]:
        """Complete trials, lowest dev loss first; of equal ones, the first."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return sorted(complete, key=lambda trial: (trial.value, trial.number))


class Lost(Exception):
    """The trial was given up as dead, though it lives: its process stood still for too long."""


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
            create: make it, if it is new.

        Raises:
            KeyError: there is no such study, and it was not to be made.
        """
        self.url, self.name = url, name
        with locked(url, "schema"):  # two processes that make one database at once break it
            self.storage = open_storage(url)
            if create:
                optuna.create_study(study_name=name, storage=self.storage, direction="minimize", load_if_exists=True)
            self.looks = Looks(url, self.storage.engine)
            self.looks.create()
        self.study = optuna.load_study(study_name=name, storage=self.storage, sampler=sampler, pruner=pruner)

    def standing(self) -> Standing:
        """How far the study is."""
        return Standing(self.study.get_trials(deepcopy=False))

    @contextmanager
    def alone(self) -> Iterator[Standing]:
        """No other process takes, queues or buries a trial meanwhile; those that died are known as dead."""
        with locked(self.url, f"study {self.name}"):
            yield self._find_dead()

    def take(self, worker: str, may_start: Callable[[Standing], bool]) -> tuple[Trial | None, Standing]:
        """A trial to run, if one may start as the study stands: a queued one, else a new one."""
        with self.alone() as standing:
            self.check_open()
            if not may_start(standing):
                return None, standing
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Optuna beats only in `optimize`; here, `beating` does
                trial = self.study.ask()
            self.storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr("worker", worker)  # last: a running trial without it died in these lines
        return trial, standing

    def check_open(self) -> None:
        """Raise RequestError if the test split has been looked at for the study's winner."""
        if self.looks.is_sealed(self.name):
            claim = self.looks.records(self.name)[0].content
            raise RequestError(
                f"study.name is {self.name}; its winner's one look at the test split was taken by {claim['who']} on "
                f"{claim['when']}, so it takes no more trials; give another study.name"
            )

    def queue(self, setting: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
        """A setting that is tried before any that is drawn; only while alone."""
        self.study.enqueue_trial(setting, user_attrs=attributes)

    def report(self, trial: Trial, resource: int, dev_loss: float) -> bool:
        """Report a dev loss at a resource (1, 2, ...); whether the trial is to be pruned.

        Raises:
            Lost: the trial was given up as dead.
        """
        try:
            trial.report(dev_loss, resource)
        except UpdateFinishedTrialError:
            raise Lost from None
        return trial.should_prune()

    def tell(
        self, trial: Trial, state: TrialState, dev_loss: float | None = None, attributes: dict[str, str] | None = None
    ) -> None:
        """How a trial ended.

        Raises:
            Lost: it was given up as dead before.
        """
        try:
            for key, value in (attributes or {}).items():
                trial.set_user_attr(key, value)
            if state == TrialState.PRUNED:  # Optuna looks up the last dev loss reported
                self.study.tell(trial, state=state)
            else:  # what it comes to; but it reads the trial before and after, for samplers that learn from each
                self.storage.set_trial_state_values(trial._trial_id, state, None if dev_loss is None else [dev_loss])
        except (UpdateFinishedTrialError, ValueError):  # Optuna's words for a trial that is finished
            if self.study.trials[trial.number].state.is_finished():
                raise Lost from None
            raise

    def bury(self, worker: str) -> None:
        """A worker is dead: so are its trials."""
        with self.alone() as standing:
            for trial in standing.trials:
                if trial.state == TrialState.RUNNING and trial.user_attrs["worker"] == worker:
                    with suppress(UpdateFinishedTrialError):  # it ended after all
                        self.storage.set_trial_user_attr(trial._trial_id, _KILLED, True)
                    self._give_up(trial)

    @contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """While inside, the trial's heartbeat tells that it is alive."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(_BEAT_SECONDS):
                # A database may be busy or away for a moment; there are more beats to come.
                with suppress(SQLAlchemyError, StorageInternalError):
                    self.storage.record_heartbeat(trial._trial_id)
                self.storage.remove_session()  # of this thread

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _find_dead(self) -> Standing:
        """Fail trials whose worker died, and queue again what it was trying, and what was interrupted.

        Which trials are to be tried again follows from their records alone: a process that dies in here leaves
        nothing undone that the next one does not do.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        standing = self.standing()
        unborn = [trial for trial in standing.trials if _is_unborn(trial)]
        for trial in unborn:
            self._give_up(trial)
        if unborn:
            standing = self.standing()
        retried = {trial.user_attrs.get("retry_of") for trial in standing.trials}
        to_retry = [trial for trial in standing.trials if _to_retry(trial) and trial.number not in retried]
        for trial in to_retry:
            setting = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            kept = {key: value for key, value in trial.user_attrs.items() if key in TASK}
            attempt = trial.user_attrs.get("attempt", 1) + (_KILLED in trial.user_attrs)
            self.queue(setting, {**kept, "retry_of": trial.number, "attempt": attempt})
        return self.standing() if to_retry else standing

    def _give_up(self, trial: FrozenTrial) -> None:
        with suppress(UpdateFinishedTrialError):  # it ended after all
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def _is_unborn(trial: FrozenTrial) -> bool:
    """Whether whoever took a trial died while it held the lock; asked by who holds it now."""
    return trial.state == TrialState.RUNNING and "worker" not in trial.user_attrs


def _to_retry(trial: FrozenTrial) -> bool:
    """Whether a trial's worker died, which leaves no reason, or was interrupted; but not one that kills its workers."""
    if trial.state != TrialState.FAIL:
        return False
    reason = trial.user_attrs.get(REASONS[TrialState.FAIL])
    if reason is not None:
        return bool(reason == INTERRUPTED)
    return _KILLED not in trial.user_attrs or trial.user_attrs.get("attempt", 1) < _ATTEMPTS


def _unusable(url: str, error: Exception) -> RequestError:
    reason = str(error).splitlines()[0]
    return RequestError(f"study.storage is {hide_password(url)}; it cannot be used ({reason})")


def open_storage(url: str) -> RDBStorage:
    """Optuna's storage at a resolved URL.

    Raises:
        RequestError: the database cannot be used.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(url, heartbeat_interval=_BEAT_SECONDS, grace_period=_GRACE_SECONDS)
    except _UNUSABLE as error:
        raise _unusable(url, error) from None


def open_trials(name: str, url: str, create: bool = True) -> Trials:
    """The trials of a study in the database of a resolved URL.

    Raises:
        RequestError: the database cannot be used, or there is no such study and none was to be made.
    """
    try:
        return Trials(url, name, create=create)
    except KeyError:
        raise RequestError(f"study.name is {name}; {hide_password(url)} has no such study: see makemore ui") from None
    except _UNUSABLE as error:
        raise _unusable(url, error) from None
