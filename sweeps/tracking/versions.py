"""The versions of what a result may depend on."""

import functools
import importlib.metadata
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

_PACKAGES = ("makemore-sweeps", "torch", "hydra-core", "optuna", "mlflow")


@functools.cache
def version_tags() -> dict[str, str]:
    """Tags with the versions of packages and Python and, in a checkout, with the git commit."""
    tags = {f"version.{package}": importlib.metadata.version(package) for package in _PACKAGES}
    tags["version.python"] = platform.python_version()
    with suppress(OSError, subprocess.CalledProcessError):
        here = Path(__file__)
        _git(here.parent, "ls-files", "--error-unmatch", here.name)  # an installed copy may lie in another repository
        tags["mlflow.source.git.commit"] = _git(here.parent, "rev-parse", "HEAD")
    return tags


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
