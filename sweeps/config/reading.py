"""Frozen dataclasses from a composed config, checked. Code below this room never sees a config node."""

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

_WORDS = {int: "an integer", float: "a number", str: "text", bool: "true or false", list: "a list", type(None): "null"}


def read_node(kind: type, cfg: DictConfig, group: str) -> Any:
    """A checked dataclass from the config node `group`, or from the keys at the root where `group` is empty.

    Raises:
        RequestError: a key is unknown or missing, or a value has a wrong type or is outside its range.
    """
    if group:
        return build(kind, group, container(cfg, group))
    keys = [key for key in get_type_hints(kind) if key in cfg]
    values = {key: OmegaConf.select(cfg, key) for key in keys}
    values |= {key: container(cfg, key) for key in keys if OmegaConf.is_dict(values[key])}
    values |= {key: OmegaConf.to_container(value) for key, value in values.items() if OmegaConf.is_list(value)}
    return build(kind, "", values)


def container(cfg: DictConfig, group: str) -> dict[str, Any]:
    """The resolved values of a config node.

    Raises:
        RequestError: the node is not a group of keys, or a value is missing or cannot be resolved.
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
    """A dataclass from plain values, checked strictly: an int is accepted as a float, no other type is converted.

    Args:
        group: the config group of the values; empty for keys at the root.
        name: the file of the group that was chosen, for messages.

    Raises:
        RequestError: a key is unknown or missing, or a value has a wrong type or is outside its range.
    """
    place = f"{group}={name}" if name else group
    _check_keys(kind, group, place, tree)
    for key, hint in get_type_hints(kind).items():
        if hint is str and type(tree.get(key)) is int:  # Hydra reads a name of digits as a number
            tree = {**tree, key: str(tree[key])}
    try:
        return _adapter(kind).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        raise RequestError(_message(kind, group, name, tree, error)) from None
    except (TypeError, PydanticUserError) as error:
        raise RequestError(f"{place} cannot be read: {kind.__name__}: {one_line(error)}") from None
    except Exception as error:  # raised by the __post_init__ of a user's own class
        raise RequestError(f"{place} cannot be made: {type(error).__name__}: {one_line(error)}") from None


@functools.cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _check_keys(kind: type, group: str, place: str, tree: dict[str, Any]) -> None:
    """Raise RequestError if a key is not a field of the dataclass, or a field without a default is not given."""
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
    """One line about the first error: its key, value and limit."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    raised = first.get("ctx", {}).get("error")
    default = f" (conf/{group}/{name}.yaml has the default)" if name else ""
    if isinstance(raised, LimitError):  # its key is a field of the dataclass at this path
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
    """The values that a field takes, in words; pydantic's message for a type that `_WORDS` lacks."""
    origin = get_origin(hint) or hint
    if origin in (list, dict):
        return "a list" if origin is list else "a group of keys"
    kinds = get_args(hint) or (hint,)
    names = [_WORDS.get(get_origin(part) or part) for part in kinds]
    if all(names):
        return " or ".join(map(str, names))
    return message[0].lower() + message[1:]
