"""The state of an unfinished training on disk: tensors as safetensors, all else as JSON; reading it runs no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

_STATE = "state"


def write_state(path: Path, state: object) -> None:
    """Write tensors, numbers, texts, truth values and None in dicts, lists and tuples.

    Raises:
        TypeError: there is something else in it.
    """
    tensors: dict[str, Tensor] = {"": torch.empty(0)}  # a file has at least one
    text = json.dumps(_pack(state, _STATE, tensors))
    save_file(tensors, path, {_STATE: text})


def read_state(path: Path) -> Any:
    """What `write_state` wrote.

    Raises:
        Exception: the file is damaged, or another one.
    """
    with safe_open(path, framework="pt") as file:
        packed = json.loads((file.metadata() or {})[_STATE])
        return _unpack(packed, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - it is no dict


def _pack(value: object, place: str, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON has it: a list is a pair of a kind and its parts, because JSON has no tuples and no int keys."""
    match value:
        case Tensor():
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().clone().contiguous()
            return ["tensor", name]
        case Mapping():
            pairs = [
                [_pack(key, place, tensors), _pack(item, f"{place}.{key}", tensors)] for key, item in value.items()
            ]
            return ["dict", pairs]
        case list() | tuple():
            parts = [_pack(item, f"{place}.{number}", tensors) for number, item in enumerate(value)]
            return ["list" if isinstance(value, list) else "tuple", parts]
        case None | bool() | int() | float() | str():
            return value
    raise TypeError(
        f"{place} is of type {type(value).__name__}; a state of training must be made of tensors, numbers, texts, "
        "truth values and None, in dicts, lists and tuples"
    )


def _unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(packed, list):
        return packed
    kind, parts = packed
    if kind == "tensor":
        return tensors[parts]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in parts}
    items = [_unpack(item, tensors) for item in parts]
    return items if kind == "list" else tuple(items)
