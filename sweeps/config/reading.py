"""The door where Hydra's configuration ends: a composed config becomes frozen dataclasses, checked, once."""

import dataclasses
import functools
import json
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from makemore.limits import LimitError
from sweeps.config.messages import any_of, one_line
from sweeps.errors import RequestError

_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}


def read_node(kind: type, cfg: DictConfig, group: str) -> Any:
    """A checked dataclass from the config node `group`, or from the keys at the root where `group` is empty.

    Raises:
        RequestError: an unknown or missing key, a wrong type or a value outside its range.
    """
    if group:
        return build(kind, group, container(cfg, group))
    keys = [key for key in get_type_hints(kind) if key in cfg]
    values = {key: OmegaConf.select(cfg, key) for key in keys}
    values |= {key: container(cfg, key) for key in keys if OmegaConf.is_dict(values[key])}
    values |= {key: OmegaConf.to_container(value) for key, value in values.items() if OmegaConf.is_list(value)}
    return build(kind, "", values)


def container(cfg: DictConfig, group: str) -> dict[str, Any]:
    """The values of a config node, resolved.

    Raises:
        RequestError: it is no group of keys, or a value is missing or cannot be resolved.
    """
    node = OmegaConf.select(cfg, group)
    if not isinstance(node, DictConfig):
        raise RequestError(f"{group} is {node!r}; it must be a group of keys: see makemore train --cfg job")
    try:
        tree = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise RequestError(f"{error.full_key} is not given; {error.full_key}=... is needed here") from None
    except OmegaConfBaseException as error:
        raise RequestError(one_line(error)) from None
    return dict(tree)  # type: ignore[arg-type]


def build(kind: type, group: str, tree: dict[str, Any], name: str = "") -> Any:
    """A dataclass from plain values, by pydantic's strict rules for JSON: of the conversions only int to float.

    Args:
        group: the config group that the values stand in; empty for keys at the root.
        name: which file of the group was chosen, for messages.

    Raises:
        RequestError: an unknown or missing key, a wrong type or a value outside its range.
    """
    place = f"{group}={name}" if name else group
    _check_keys(kind, group, place, tree)
    for key, hint in get_type_hints(kind).items():
        if hint is str and type(tree.get(key)) is int:  # a name of digits, as Hydra reads it
            tree = {**tree, key: str(tree[key])}
    try:
        return _adapter(kind).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        raise RequestError(_message(kind, group, name, tree, error)) from None
    except (TypeError, PydanticUserError) as error:
        raise RequestError(f"{place} cannot be read: {kind.__name__}: {one_line(error)}") from None
    except Exception as error:  # a user's own __post_init__
        raise RequestError(f"{place} cannot be made: {type(error).__name__}: {one_line(error)}") from None


@functools.cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _check_keys(kind: type, group: str, place: str, tree: dict[str, Any]) -> None:
    """Raise RequestError for a key that the dataclass does not have, or one that it needs and is not given."""
    prefix = f"{group}." if group else ""
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    hints = get_type_hints(kind)
    for key, value in tree.items():
        if key not in fields:
            raise RequestError(f"{prefix}{key} is not a key of {place}; {any_of(key, list(fields) or ['nothing'])}")
        if isinstance(hints[key], type) and dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise RequestError(f"{prefix}{key} is {value!r}; it must be a group of keys")
            _check_keys(hints[key], f"{prefix}{key}", f"{prefix}{key}", value)
    for key, field in fields.items():
        if key not in tree and field.default is field.default_factory is dataclasses.MISSING:
            raise RequestError(f"{prefix}{key} is missing; {place} has {', '.join(fields)}")


def _message(kind: type, group: str, name: str, tree: dict[str, Any], error: ValidationError) -> str:
    """One line for the first thing that is wrong: key, value and limit."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    raised = first.get("ctx", {}).get("error")
    default = f" (conf/{group}/{name}.yaml has the default)" if name else ""
    if isinstance(raised, LimitError):  # its key is a field of the dataclass that stands at this place
        return ".".join(filter(None, [group, *path, str(raised)])) + default
    if raised is not None:
        place = f"{group}={name}" if name else ".".join(filter(None, [group, *path]))
        return f"{place}: {one_line(raised)}{default}"
    hint, value, key = kind, tree, group
    for part in path:
        if not (dataclasses.is_dataclass(hint) and isinstance(value, dict) and part in value):
            break
        key = f"{key}.{part}" if key else part
        hint, value = get_type_hints(hint)[part], value[part]
    return f"{key} is {value!r}; it must be {_wanted(hint, first['msg'])}"


def _wanted(hint: Any, message: str) -> str:
    """What a field takes, in words; pydantic's own where the type is not one of ours."""
    origin = get_origin(hint) or hint
    if origin in (list, dict):
        return "a list" if origin is list else "a group of keys"
    kinds = get_args(hint) or (hint,)
    if all(part in _WORDS for part in kinds):
        return " or ".join(_WORDS[part] for part in kinds)
    return message[0].lower() + message[1:]
