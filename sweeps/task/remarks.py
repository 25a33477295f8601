"""The remarks of a task on its items, for people."""

import sys
from collections.abc import Sequence

from sweeps.task.task import Task


def print_remarks(task: Task, dev: Sequence[str]) -> None:
    """Print a line for each thing that is odd about a task's items, on standard error."""
    for remark in task.remarks(dev):
        print(f"makemore: {remark}", file=sys.stderr)
