"""Where the config tree lies, and how a resolved config is written."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def conf_dir() -> Path:
    """The config tree: beside the packages in a checkout, inside this one in a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def write_yaml(path: Path, tree: Any) -> None:
    """Write a tree of plain values as a file that OmegaConf reads."""
    OmegaConf.save(OmegaConf.create(tree), path)
