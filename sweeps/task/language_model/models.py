"""The translation between `model` nodes and model configs: shipped models by `name`, a user's own by `_target_`."""

import dataclasses
from typing import Any

from makemore.mlp import MLPConfig
from makemore.model import ModelConfig
from makemore.ngram import NgramConfig
from sweeps.config.reading import build
from sweeps.config.targets import find_class
from sweeps.errors import RequestError

SHIPPED: dict[str, type[ModelConfig]] = {"mlp": MLPConfig, "ngram": NgramConfig}


def read_model(tree: dict[str, Any]) -> tuple[str, ModelConfig]:
    """The name and the checked config of a `model` node.

    Raises:
        RequestError: the name is unknown, the class cannot be found, or the class does not accept a key or a value.
    """
    tree = dict(tree)
    name, target = tree.pop("name", None), tree.pop("_target_", None)
    if target is None:
        if not isinstance(name, str) or name not in SHIPPED:
            raise RequestError(
                f"model.name is {name}; it must be {' or '.join(SHIPPED)}, or your own class: "
                "model._target_=MODULE.CLASS"
            )
        return str(name), build(SHIPPED[name], "model", tree, str(name))
    kind = find_class("model", target, ModelConfig)
    name = str(name or kind.__name__)
    config = build(kind, "model", tree, name)
    if type(getattr(config, "block_size", None)) is not int:
        raise RequestError(
            f"model._target_ is {target}; {kind.__name__} has no block_size: it must have an int field block_size, "
            "the characters of context that the module is given"
        )
    return name, config


def model_node(name: str, config: ModelConfig) -> dict[str, Any]:
    """The `model` node that `read_model` reads back."""
    kind = type(config)
    target = {} if SHIPPED.get(name) is kind else {"_target_": f"{kind.__module__}.{kind.__qualname__}"}
    return {"name": name, **target, **dataclasses.asdict(config)}  # type: ignore[call-overload]
