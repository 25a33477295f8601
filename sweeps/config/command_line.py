"""Commands that are printed for a user to paste into a shell."""

import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from sweeps.databases import hide_password

# How overrides begin that say where the records are.
_PLACES = ("study.storage=", "tracking.uri=", "tracking.experiment=", "tracking.artifacts=")
_QUOTES = "'\""  # which an override may have around its value


def command_line(*words: str) -> str:
    """A command of this program, quoted for a shell, that works in the current folder as it stands."""
    return shlex.join([*_program(), *words])


def places_of_records(overrides: Iterable[str]) -> list[str]:
    """The overrides among the given ones that say where the records are, without passwords."""
    return [line for line in without_passwords(overrides) if line.lstrip("+").startswith(_PLACES)]


def without_passwords(overrides: Iterable[str]) -> list[str]:
    """The overrides, with stars for the password of a database or server."""
    return [_without_password(line) if line.lstrip("+").startswith(_PLACES) else line for line in overrides]


def _without_password(override: str) -> str:
    key, _, url = override.partition("=")
    return f"{key}={hide_password(url.strip(_QUOTES))}" if "@" in url else override


def config_dirs(cfg: DictConfig) -> list[str]:
    """The options with which a command was told to look for config files elsewhere, too."""
    sources = cfg.hydra.runtime.config_sources
    return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]


def _program() -> list[str]:
    """The words that start this program: `makemore` only where a shell finds this very program by that name."""
    called = Path(sys.argv[0])
    script = called if called.name == "makemore" and called.is_file() else Path(sys.executable).with_name("makemore")
    if not script.is_file():
        return [_from_here(Path(sys.executable)), "-m", "sweeps"]
    found = shutil.which("makemore")
    return ["makemore"] if found and Path(found).samefile(script) else [_from_here(script)]


def _from_here(path: Path) -> str:
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
