"""The errors of Hydra and OmegaConf, which take several lines, in one line that a user can act on."""

import difflib
from collections.abc import Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from sweeps.errors import hide_passwords

NAMED_GROUPS = ("task", "data", "model", "optimizer", "schedule")  # `name` says which file of the group was chosen
OWN_GROUPS = ("task", "model", "space", "experiment")  # groups to which users add files of their own
_NOISE = (
    *("full_key:", "object_type=", "reference_type=", "See https", "Set the environment"),
    *("[SQL:", "[parameters:", "(Background on this error"),  # of SQLAlchemy
)


def one_line(error: BaseException) -> str:
    """The message of an error and of its cause in one line, without passwords.

    A mistyped name is answered with the likely name.
    """
    if isinstance(error, MissingConfigException) and error.options:
        group, _, wanted = str(error.missing_cfg_file).rpartition("/")
        own = (
            "; a file of your own is found with --config-dir FOLDER, as FOLDER/" + group if group in OWN_GROUPS else ""
        )
        return f"{group} is {wanted}; {any_of(wanted, error.options)}{own}"
    for raised in (error, error.__cause__):
        if isinstance(raised, ConfigAttributeError | ConfigKeyError) and isinstance(raised.parent_node, DictConfig):
            group, _, key = str(raised.full_key).rpartition(".")
            if (known := _keys_of(group, raised.parent_node)) and key not in known:
                name = raised.parent_node.get("name") if group in NAMED_GROUPS else None
                kind = f"{group}={name}" if name else group
                return f"{raised.full_key} is not a key{f' of {kind}' if kind else ''}; {any_of(key, known)}"
    lines = [line.strip() for line in str(error).splitlines()]
    if error.__cause__ is not None:
        lines += [line.strip() for line in str(error.__cause__).splitlines()]
    if isinstance(error, OverrideParseException):
        lines.append("quote a value that has special characters, as in 'data.path=\"~/towns.txt\"'")
    return hide_passwords("; ".join(dict.fromkeys(line for line in lines if line and not line.startswith(_NOISE))))


def reason(error: BaseException) -> str:
    """What ended a run, as it is recorded: the kind of an error and its message, without passwords."""
    lines = [line for line in str(error).splitlines() if not line.strip().startswith(_NOISE)]
    return hide_passwords(f"{type(error).__name__}: " + "\n".join(lines))


def any_of(given: str, names: Sequence[str]) -> str:
    """The text "it must be a, b or c", after "did you mean a?" if a name is close to the given name."""
    near = difflib.get_close_matches(given, names, n=1)
    listed = ", ".join(names[:-1]) + " or " * (len(names) > 1) + names[-1]
    return (f"did you mean {near[0]}? " if near else "") + f"it must be {listed}"


def _keys_of(group: str, node: DictConfig) -> list[str]:
    """The keys that a user may give in a group, or at the root where `group` is empty."""
    keys = [str(key) for key in node if not (group in NAMED_GROUPS and key == "name") and (group or key != "hydra")]
    return [*keys, "experiment"] if not group and "space" in keys else keys  # experiment=null leaves no key
