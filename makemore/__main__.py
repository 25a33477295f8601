"""The console script `makemore`, and `python -m makemore`: the command line belongs to the harness.

It stands in this package because another distribution, the sweep engine of Weights & Biases, has a package `sweeps`
too. Installed into the same environment it takes the place of ours, and then something that is still ours has to say
so.
"""

import importlib
import runpy
import sys
from importlib import metadata
from importlib.util import find_spec

_OURS = "makemore-sweeps"


def main() -> None:
    """Run the command line and exit with its code; 1, with one line, where `sweeps` is not our package."""
    if remark := foreign_package():
        print(f"makemore: {remark}", file=sys.stderr)
        sys.exit(1)
    runpy.run_module("sweeps", run_name="__main__")


def foreign_package() -> str | None:
    """What is wrong and how to mend it, if `import sweeps` does not find our package; None if it does."""
    try:
        if getattr(importlib.import_module("sweeps"), "DISTRIBUTION", None) == _OURS:
            return None
    except ImportError:  # of something that the other package needs
        pass
    again = f"install {_OURS} again with pip's options --force-reinstall --no-deps"
    spec = find_spec("sweeps")
    if spec is None or spec.origin is None:  # uninstalling the other distribution removes files that both had
        return f"files of our package sweeps are missing: {again}"
    others = sorted(set(metadata.packages_distributions().get("sweeps", ())) - {_OURS})
    return (
        f"{spec.origin} is not ours but of the distribution {' and '.join(others) or 'that was installed last'}; the "
        f"two cannot share an environment: pip uninstall {' '.join(others)}, then {again}"
    )


if __name__ == "__main__":
    main()
