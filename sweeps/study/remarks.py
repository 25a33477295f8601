"""What a study says on standard error before its first trial and after its last."""

import sys

from optuna.trial import TrialState

from sweeps.errors import AllTrialsFailed, StudyStopped
from sweeps.search.sweep_words import parse_overrides
from sweeps.study.common_failure import common_failure
from sweeps.study.plan import Plan
from sweeps.study.request import StudyConfig
from sweeps.trials.confirm import confirm_study_name, study_winner
from sweeps.trials.standing import Standing
from sweeps.trials.stop import read_stop
from sweeps.trials.trials import Trials

_WARM_START = "space.warm_start"


def say_what_is_tried(plan: Plan) -> None:
    """Print that the sampler and the pruner have nothing to choose, where that is so."""
    space, seeds = plan.space, f" with seeds {', '.join(map(str, plan.seeds))}" if len(plan.seeds) > 1 else ""
    if not space.distributions:
        only = " ".join(line for line in space.fixed if line.partition("=")[0] in space.single)
        setting = f"{only} is the only setting" if only else "there is only one setting"
        print(f"makemore: nothing is searched: {setting}, which is trained once{seeds}", file=sys.stderr)
    elif plan.in_full:
        print(
            f"makemore: the space has {plan.n_trials} settings; each is trained once{seeds}, to its end "
            "(sampler=tpe pruner=hyperband would search it)",
            file=sys.stderr,
        )


def say_how_it_ended(config: StudyConfig, plan: Plan, standing: Standing) -> None:
    """Print why there are fewer trials than were asked for, if there are.

    Raises:
        AllTrialsFailed: no trial is complete.
    """
    if reason := common_failure(standing, plan.ended_before, plan.space.distributions):
        raise AllTrialsFailed(
            f"no trial of study {config.name} is complete, and the first ended alike, so no more were started "
            f"({reason}); mend that, with another study.name if a key must change; or try other settings of the space "
            "with the same command again"
        )
    stopped = ""
    if standing.finished < plan.n_trials:
        why = "study.timeout is over"
        if standing.failures >= plan.most_failures:
            why = f"{standing.failures} failed"
        elif plan.is_patient_no_more(standing):
            why = f"none of the last {standing.since_best} is better than trial {standing.ranking[0].number}"
        stopped = f"stopped at {standing.finished} of {plan.n_trials} trials: {why}"
    if not standing.ranking:
        why = stopped or "all failed, diverged or were pruned"
        raise AllTrialsFailed(f"no trial of study {config.name} is complete: {why}")
    if stopped:
        print(f"makemore: {stopped}", file=sys.stderr)
    elif plan.n_trials < config.n_trials:
        print(f"makemore: every setting of the space was tried: {standing.finished} trials", file=sys.stderr)


def check_not_stopped(plan: Plan, trials: Trials) -> None:
    """Raise StudyStopped if the study was asked to stop since the plan was made, and had something left to do."""
    request = read_stop(trials)
    if request is None or request.id == plan.stop_seen:
        return
    standing = trials.standing()
    confirmed = not plan.confirm.top
    if plan.confirm.top and standing.ranking:
        _, confirmations = study_winner(
            standing, Trials(plan.storage, confirm_study_name(plan.name)).standing(), plan.confirm
        )
        confirmed = bool(confirmations)
    if standing.finished < plan.n_trials or not confirmed:
        raise StudyStopped(
            f"study {plan.name} was stopped by {request}, at {standing.finished} of {plan.n_trials} trials"
        )


def count_taken(plan: Plan) -> int:
    """How many runs the study has started, those that confirm among them."""
    names = (plan.name, confirm_study_name(plan.name)) if plan.confirm.top else (plan.name,)
    standings = [Trials(plan.storage, name).standing() for name in names]
    return sum(len(standing.trials) - standing.count(TrialState.WAITING) for standing in standings)


def say_that_nothing_was_trained(config: StudyConfig, plan: Plan, finished: int, arguments: list[str]) -> None:
    """Print that a study had nothing left to do, and which keys of the command line therefore had no effect."""
    cure = "; a higher study.n_trials goes on" if plan.n_trials == config.n_trials else ""
    done = f"{finished} of {max(finished, plan.n_trials)} trials were done before"
    asked = f" (study.n_trials is {config.n_trials})" if config.n_trials < finished else ""
    print(f"makemore: {done}{asked}; nothing was trained{cure}", file=sys.stderr)
    keys = dict.fromkeys(override.key_or_group for override in parse_overrides(arguments))
    idle = [key for key in keys if key in ("study.seed", _WARM_START) or key.partition(".")[0] in ("sampler", "pruner")]
    if idle:
        has = "has" if len(idle) == 1 else "have"
        print(f"makemore: {', '.join(idle)} {has} no effect on trials that are done", file=sys.stderr)
