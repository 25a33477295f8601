"""The names of studies, of lists, of output files, and of a user's own models and tasks."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from makemore.limits import LimitError
from sweeps.errors import RequestError


def is_study_name(name: str) -> bool:
    """Whether `name` can be used as a folder, in an override and in a query without quotes."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is not None


def check_study_name(name: str, given: str = "study.name is") -> None:
    """Raise RequestError unless `is_study_name(name)`; `given` begins the message."""
    if not is_study_name(name):
        raise RequestError(f"{given} {name!r}; it must be 1 to 100 of a-z, A-Z, 0-9, '.', '_' and '-'")


def list_in_study_name(cfg: DictConfig) -> str:
    """The part of a default study name that tells the list: towns for data.path=towns.txt, a class for an own task."""
    task = OmegaConf.select(cfg, "task")
    if isinstance(task, DictConfig) and "_target_" in task:
        return _as_study_name(str(task["_target_"]).rpartition(".")[2])
    name = str(OmegaConf.select(cfg, "data.name"))
    path = OmegaConf.select(cfg, "data.path")  # None where it is missing, which is refused elsewhere
    return _as_study_name(Path(str(path)).stem) if name == "file" and path else name


OmegaConf.register_new_resolver("makemore.list", lambda *, _root_: list_in_study_name(_root_), replace=True)


def _as_study_name(name: str) -> str:
    """At most 60 characters that a study's name may have; a digest where a name has none of them."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub("[^A-Za-z0-9_.-]+", "-", plain).strip(".-")
    return words[:60] or hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]


def check_output(key: str, file: str | None, suffix: str = "") -> None:
    """Raise LimitError unless `file` is None or a path with the suffix in a folder that exists."""
    if file is not None:
        path = Path(file)
        if not path.name.endswith(suffix) or not path.absolute().parent.is_dir() or path.is_dir():
            kind = f"{suffix} file" if suffix else "file"
            raise LimitError(key, file, f"null, or a {kind} in a folder that exists")


_MEANT = {  # a group of keys, and the key that is meant by a word in its place
    "study": "study.name",
    "study.confirm": "study.confirm.top",
    "tracking": "tracking.uri",
    "train": "train.steps",
    "looks": "looks.ledger",
    "hooks": "hooks.on_end",
    "final_test": "final_test.reason",
    "lr_find": "lr_find.picture",
    "ladder": "ladder.picture",
}


def check_groups(overrides: Iterable[str]) -> None:
    """Raise RequestError if an override gives a word to a group of keys, as study=first does."""
    for override in overrides:
        group, _, value = override.lstrip("+").partition("=")
        if group in _MEANT and value and value[0] not in "{$":
            meant = f"{_MEANT[group]}={'...' if value == 'null' else value}"
            raise RequestError(f"{group} is {value}; it must be a group of keys: did you mean {meant}?")


def name_own_classes(cfg: DictConfig, choices: Mapping[str, Any]) -> None:
    """Set the `name` of a `model` or `task` node with a `_target_` to its config file's: model=gru is named gru.

    Args:
        choices: the file that was chosen in each config group, as Hydra records it.
    """
    for group in ("model", "task"):
        node = cfg.get(group)
        if isinstance(node, DictConfig) and "_target_" in node and "name" not in node and choices.get(group):
            with open_dict(node):
                node["name"] = choices[group]
