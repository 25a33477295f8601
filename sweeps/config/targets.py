"""The import of a user's own class by the name that `_target_` gives."""

import dataclasses
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from sweeps.config.messages import one_line
from sweeps.errors import RequestError


def find_class(group: str, target: object, base: type) -> type[Any]:
    """The class that `_target_` of a config group names.

    Modules are imported only from Python's path and from the current folder; code in a database or an artifact is
    never run. The current folder is searched last, so a file in it cannot replace an installed package.

    Raises:
        RequestError: the module or class does not exist, the import fails, or the class is not a frozen dataclass
            that extends `base`.
    """
    key = f"{group}._target_ is {target}"
    wanted = f"it must be MODULE.CLASS, a frozen dataclass that extends {base.__name__}"
    module_name, _, class_name = str(target).rpartition(".")
    if not isinstance(target, str) or not module_name or not all(part.isidentifier() for part in target.split(".")):
        raise RequestError(f"{key}; {wanted}")
    module = _import(module_name, key)
    kind = getattr(module, class_name, None)
    where = getattr(module, "__file__", None) or module_name
    if kind is None:
        raise RequestError(f"{key}; {where} has no {class_name}: {wanted}")
    if not inspect.isclass(kind) or not issubclass(kind, base) or kind is base:
        raise RequestError(f"{key}; {class_name} in {where} does not extend {base.__name__}: {wanted}")
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise RequestError(f"{key}; {class_name} in {where} is not a frozen dataclass: {wanted}")
    return kind


def _import(name: str, key: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # it stays there, because the module may import its neighbours later
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            top = name.partition(".")[0]
            raise RequestError(
                f"{key}; there is no module {name}: put {top}.py into the folder where makemore is called, or on "
                "Python's path (PYTHONPATH)"
            ) from None
        raise RequestError(f"{key}; importing {name} failed: {one_line(error)}") from None
    except Exception as error:
        raise RequestError(f"{key}; importing {name} failed: {type(error).__name__}: {one_line(error)}") from None
