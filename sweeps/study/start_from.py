"""A study that starts from an older one: the older study's trials that lie in the new space inform the sampler."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.errors import RequestError
from sweeps.search.space import Setting, Space, only_active
from sweeps.trials.attributes import TAKEN_FROM
from sweeps.trials.confirm import ConfirmConfig, confirm_study_name, study_winner
from sweeps.trials.trials import find_trials

_OF_THE_SPACE = ("space ", "confirm.", "most parameters")  # how keys of an identity begin that may differ


@dataclass(frozen=True)
class Inheritance:
    """What a study takes over from an older one."""

    study: str
    trials: list[FrozenTrial]
    winner: Setting | None  # of the older study, if it lies in the new space


def inherit(study: str, storage: str, identity: Mapping[str, str], space: Space) -> Inheritance:
    """The trials of an older study that lie in a new space, with the same data and the same values of all fixed keys.

    Args:
        storage: the resolved URL of the database that has the older study.
        identity: of the new study.

    Raises:
        RequestError: there is no such study, or none of its trials lies in the new space.
    """
    older = find_trials(study, storage)
    recorded: dict[str, str] = older.study.user_attrs.get("identity", {}) if older else {}
    if older is None or not recorded:
        raise RequestError(f"study.start_from is {study}; study.storage has no such study: see makemore studies")
    fixed = {key: value for key, value in identity.items() if not key.startswith(_OF_THE_SPACE)}
    taken: dict[int, FrozenTrial] = {}
    standing = older.standing()
    for trial in standing.own:
        setting = _setting(trial, recorded, fixed, space)
        if setting is not None and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            taken[trial.number] = create_trial(
                state=trial.state,
                value=trial.value,
                params=setting,
                distributions={key: space.distributions[key] for key in setting},
                user_attrs={TAKEN_FROM: f"{study} #{trial.number}"},
                intermediate_values=trial.intermediate_values,
            )
    if not taken:
        searched = {key for trial in standing.own for key in trial.params}
        changed = [
            f"{key} differs" if key.startswith("data ") else f"{key} was {recorded.get(key, 'absent')}, is {value}"
            for key, value in fixed.items()
            if recorded.get(key) != value and key not in searched
        ]
        why = f" ({'; '.join(changed)})" if changed else ""
        raise RequestError(
            f"study.start_from is {study}; none of its finished trials lies in this space with the same data and fixed "
            f"values{why}: leave it out, or give the values that study had"
        )
    rule = ConfirmConfig(int(recorded.get("confirm.top", 0)), int(recorded.get("confirm.seeds", 1)))
    confirm = find_trials(confirm_study_name(study), storage)
    winner, _ = study_winner(standing, confirm.standing() if confirm else None, rule)
    best = taken.get(winner.number) if winner else None
    return Inheritance(study, list(taken.values()), best.params if best else None)


def _setting(trial: FrozenTrial, recorded: Mapping[str, str], fixed: Mapping[str, str], space: Space) -> Setting | None:
    """A trial's setting in the new space; None if it does not lie there."""
    known = {**recorded, **{key: str(value) for key, value in trial.params.items()}}
    if any(known.get(key) != value for key, value in fixed.items()):
        return None
    values = {
        key: trial.params[key] if key in trial.params else _read(distribution, recorded[key])
        for key, distribution in space.distributions.items()
        if key in trial.params or key in recorded
    }
    setting = only_active(space, values)
    lacks = any(space.is_active(key, setting) and key not in setting for key in space.distributions)
    return None if lacks or not space.has(setting) else setting


def _read(distribution: BaseDistribution, text: str) -> Any:
    """A recorded value in the type that a distribution gives; the text itself if it cannot give it."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if str(choice) == text), text)
    try:
        return int(text) if isinstance(distribution, IntDistribution) else float(text)
    except ValueError:
        return text
