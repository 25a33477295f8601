"""Whether the study that is recorded under a name is the study that is asked for."""

from omegaconf import DictConfig, OmegaConf

from sweeps.config.names import is_study_name, list_in_study_name
from sweeps.errors import RequestError
from sweeps.study.identity import Identity
from sweeps.tracking.queries import RunRecord
from sweeps.trials.trials import find_trials


def check_same(name: str, identity: Identity, recorded: dict[str, str], run: RunRecord | None) -> None:
    """Raise RequestError if a recorded study is not the one that is asked for.

    Args:
        recorded: the identity of the recorded study.
        run: its run in MLflow, if there is one.
    """
    difference = identity.difference(recorded)
    if not difference:
        return
    if identity.has_other_items(recorded):
        mine = str(identity.items.path or identity.items.name)
        theirs = run.params.get("data.path") if run else None
        other = f", {theirs}," if theirs and theirs != mine else ""
        raise RequestError(
            f"study.name is {name}; that study was made with another list{other} or {mine} has changed since; "
            f"give another study.name, such as study.name={name}-2, or the list that it was made with"
        )
    raise RequestError(
        f"study.name is {name}; that study was started differently ({difference}); "
        "give another study.name, or the settings it was started with"
    )


def check_default_name(name: str, cfg: DictConfig, storage: str, identity: Identity) -> None:
    """Raise RequestError if an earlier version started this study, under the default name that it had for its list.

    Earlier versions named every list of a user's own "file", and the items of an own task like the chosen data.
    """
    if not OmegaConf.is_interpolation(cfg.study, "name"):
        return
    earlier = f"{name.removesuffix(list_in_study_name(cfg))}{cfg.data.name}"
    if earlier == name or not is_study_name(earlier) or find_trials(name, storage):
        return
    trials = find_trials(earlier, storage)
    recorded = trials.study.user_attrs.get("identity") if trials else None
    if recorded is not None and not identity.difference(recorded):
        raise RequestError(
            f"study.name is not given; this study is recorded as {earlier}, its default name in earlier versions: give "
            f"study.name={earlier} to go on with it, or study.name={name} to start another"
        )
