"""The phases of a study, search and confirmation: whose trials are taken, when, and what each of them trains."""

from abc import ABC, abstractmethod
from contextlib import nullcontext

from optuna.trial import Trial, TrialState

from sweeps.search.pruners import make_pruner
from sweeps.search.samplers import make_sampler, suggest
from sweeps.search.space import Setting
from sweeps.study.plan import Plan
from sweeps.study.runs import TrialPlace
from sweeps.study.weight_limit import weight_limit
from sweeps.trials.attributes import WARM_START
from sweeps.trials.confirm import confirm_study_name, queue_confirmation
from sweeps.trials.standing import Standing
from sweeps.trials.trials import Trials


class Phase(ABC):
    """A part of a study that workers bring to its end, trial by trial."""

    name: str
    trials: Trials

    @abstractmethod
    def may_start(self, standing: Standing) -> bool:
        """Whether a trial may be taken."""

    @abstractmethod
    def prepare(self, trial: Trial) -> tuple[Setting, TrialPlace]:
        """What a trial trains, and how its run is recorded."""

    @abstractmethod
    def report(self, trial: Trial, evaluation: int, dev_loss: float) -> bool:
        """Take note of a dev loss; whether the trial is to be pruned."""

    @abstractmethod
    def total(self, standing: Standing) -> int:
        """How many trials the phase will have when it has ended."""

    def best(self, standing: Standing) -> tuple[int, float] | None:
        """Number and dev loss of the best trial so far, if trials of this phase compete."""
        return None


class SearchPhase(Phase):
    """Settings are drawn, until the study has its total of finished trials."""

    name = "search"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        allows = weight_limit(plan.space, plan.jobs)
        self._sampler = make_sampler(plan.cfg, plan.space, plan.seed, allows, plan.in_full)
        self.trials = Trials(plan.storage, plan.name, self._sampler, make_pruner(plan.cfg, plan.in_full))

    def may_start(self, standing: Standing) -> bool:
        """Whether a trial is missing, the study has not failed too often, and there is time for it."""
        plan = self._plan
        return (
            standing.finished + standing.running < plan.n_trials
            and standing.failures < plan.most_failures
            and not plan.is_patient_no_more(standing)
            and self._has_setting(standing)
            and not plan.is_late(plan.confirm.expected_seconds(standing, plan.workers, len(plan.seeds)))
        )

    def _has_setting(self, standing: Standing) -> bool:
        """Whether there is a setting for another trial: a grid may have been tried."""
        sampler = self._sampler
        waiting = standing.count(TrialState.WAITING)
        return sampler.grid is None or waiting > 0 or sampler.count_untried(standing.trials) > 0

    def prepare(self, trial: Trial) -> tuple[Setting, TrialPlace]:
        """The setting that the sampler draws."""
        plan = self._plan
        with self.trials.alone() if self._sampler.draws_alone else nullcontext() as standing:
            self._sampler.trials = standing.trials if standing else ()
            setting = suggest(trial, plan.space)
        warm_start = trial.user_attrs.get(WARM_START)
        searched = tuple(plan.space.distributions)
        seeds = plan.seeds if len(plan.seeds) > 1 else ()
        place = TrialPlace(plan.name, trial.number, plan.parent_id, searched, warm_start=warm_start, seeds=seeds)
        return setting, place

    def report(self, trial: Trial, evaluation: int, dev_loss: float) -> bool:
        """Report a dev loss to the study; whether its pruner ends the trial."""
        return self.trials.report(trial, evaluation, dev_loss)

    def total(self, standing: Standing) -> int:
        """The total that was asked for."""
        return self._plan.n_trials

    def best(self, standing: Standing) -> tuple[int, float] | None:
        """Number and dev loss of the best trial so far."""
        return (standing.ranking[0].number, standing.ranking[0].values[0]) if standing.ranking else None


class ConfirmPhase(Phase):
    """The best settings of the search are trained again with fresh seeds."""

    name = "confirm"

    def __init__(self, plan: Plan, search: Standing) -> None:
        self._plan, self._search = plan, search
        self.trials = Trials(plan.storage, confirm_study_name(plan.name))
        queue_confirmation(plan.confirm, search, plan.seeds, self.trials)

    def may_start(self, standing: Standing) -> bool:
        """Whether a run is queued, and there is time for it."""
        return standing.count(TrialState.WAITING) > 0 and not self._plan.is_late()

    def prepare(self, trial: Trial) -> tuple[Setting, TrialPlace]:
        """The setting of the trial that is confirmed, with the fresh seed."""
        plan = self._plan
        number, seed = trial.user_attrs["confirms"], trial.user_attrs["seed"]
        confirmed = self._search.trials[number]
        searched = tuple(plan.space.distributions)
        # In MLflow's tree of runs it stands under the trial: the study has one child for each trial.
        parent_id = confirmed.user_attrs["run_id"]
        setting = {**confirmed.params, "seed": seed}
        return setting, TrialPlace(plan.name, number, parent_id, searched, confirm_number=trial.number)

    def report(self, trial: Trial, evaluation: int, dev_loss: float) -> bool:
        """Nothing: a run that confirms goes to its end."""
        return False

    def total(self, standing: Standing) -> int:
        """The runs that were queued; one that failed is queued again."""
        return len(standing.trials) - standing.count(TrialState.FAIL)
