"""The folder of the config tree, and the writing of a resolved config."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def conf_dir() -> Path:
    """The folder of the config tree: in a checkout beside the packages, in an installed wheel inside `sweeps`."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def write_yaml(path: Path, tree: Any) -> None:
    """Write a tree of plain values as YAML that OmegaConf reads."""
    OmegaConf.save(OmegaConf.create(tree), path)
