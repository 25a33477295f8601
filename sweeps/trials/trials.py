"""The trials of a study, taken by any number of processes on any number of machines: no more than asked for, none lost.

Optuna's storage is all that the processes share. A process that takes a trial holds a lock of the study's database for
the few milliseconds in which dead trials are settled, the others counted and a new one opened; its setting is drawn
later.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from sweeps.databases import has_table, hide_password, locked
from sweeps.errors import RequestError
from sweeps.trials.attributes import TAKEN_FROM, WORKER, WORKER_DIED
from sweeps.trials.dead import mark_failed, settle_dead_trials
from sweeps.trials.seal import LOOKS, create_looks, read_seal
from sweeps.trials.standing import Standing
from sweeps.trials.storage import BEAT_SECONDS, UNUSABLE, beating, open_storage, unusable


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
        # Two processes that make one database at once break it.
        with locked(url, "schema") if create else nullcontext():
            self.storage = open_storage(url, create)
            if create:
                optuna.create_study(study_name=name, storage=self.storage, direction="minimize", load_if_exists=True)
                create_looks(self.storage.engine)  # a database from before there were looks has no table of them
        self._may_be_sealed = create or has_table(url, LOOKS.name)
        self.study = optuna.load_study(study_name=name, storage=self.storage, sampler=sampler, pruner=pruner)
        self.study_id = self.storage.get_study_id_from_name(name)

    def standing(self) -> Standing:
        """How far the study is."""
        return Standing(self.study.get_trials(deepcopy=False))

    @contextmanager
    def alone(self) -> Iterator[Standing]:
        """While inside, no other process takes, queues or buries a trial; dead trials are settled before."""
        with locked(self.url, f"study {self.name}"):
            yield settle_dead_trials(self.study)

    def take(self, worker: str, may_start: Callable[[Standing], bool]) -> tuple[Trial | None, Standing]:
        """A trial to run, queued or new, and how the study stood; no trial where `may_start` says so."""
        with self.alone() as standing:
            self.check_open()
            if not may_start(standing):
                return None, standing
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Optuna beats only in `optimize`; here, `beating` does
                trial = self.study.ask()
            self.storage.record_heartbeat(self._id(trial.number))
            trial.set_user_attr(WORKER, worker)  # last: a running trial without it was only half taken
        return trial, standing

    def check_open(self) -> None:
        """Raise RequestError if the test split has been looked at for the study's winner."""
        if self._may_be_sealed and (seal := read_seal(self.storage.engine, self.name)):
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
            trial.report(dev_loss, resource)
        except UpdateFinishedTrialError:
            raise GivenUp from None
        return trial.should_prune()

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
            for key, value in (attributes or {}).items():
                trial.set_user_attr(key, value)
            self.study.tell(trial, dev_loss, state)
        except (UpdateFinishedTrialError, ValueError):  # how Optuna says that a trial has ended
            if self.standing().trials[trial.number].state.is_finished():
                raise GivenUp from None
            raise

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
