"""The folder of the config tree, and the writing of a resolved config."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sweeps.errors import hide_passwords


def conf_dir() -> Path:
    """The folder of the config tree: in a checkout beside the packages, in an installed wheel inside `sweeps`."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def write_yaml(path: Path, tree: Any) -> None:
    """Write a tree of plain values, or a config, as YAML that OmegaConf reads; without the passwords of URLs in it."""
    text = OmegaConf.to_yaml(tree if OmegaConf.is_config(tree) else OmegaConf.create(tree))
    path.write_text(hide_passwords(text), encoding="utf-8")


def has_passwords(tree: Any) -> bool:
    """Whether a config has URLs with passwords in it, other than by an interpolation."""
    text = OmegaConf.to_yaml(tree)
    return hide_passwords(text) != text
