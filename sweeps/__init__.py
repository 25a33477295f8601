"""The harness: studies of anybody's model or task, tracked, with one look at the test split.

The public Python API is what this package names: `Task`, `Trained`, `Report`, `resumed_state` and `Diverged` for a task
of your own, and
`run_study`, `load_study` and `load_run` for notebooks. Each is imported when it is first asked for, so that the command
line starts fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makemore.train import Diverged
    from sweeps.api import Run, Study, load_run, load_study, run_study
    from sweeps.task.task import Baseline, Description, Report, Task, Trained, resumed_state

__all__ = [
    "Baseline",
    "Description",
    "Diverged",
    "Report",
    "Run",
    "Study",
    "Task",
    "Trained",
    "load_run",
    "load_study",
    "resumed_state",
    "run_study",
]

DISTRIBUTION = "makemore-sweeps"  # another distribution has a package of this name: `makemore` looks for this one

_MODULES = {
    "Diverged": "makemore.train",
    **dict.fromkeys(["Run", "Study", "load_run", "load_study", "run_study"], "sweeps.api"),
    **dict.fromkeys(["Baseline", "Description", "Report", "Task", "Trained", "resumed_state"], "sweeps.task.task"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
