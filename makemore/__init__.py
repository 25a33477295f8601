"""Small character-level language models that train on a CPU (Bengio et al. 2003; makemore, part 2)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from makemore.model import ModelConfig

__all__ = ["ModelConfig"]


def __getattr__(name: str) -> Any:
    """ModelConfig, loaded at first use: torch takes a second to import, and some modules here do without it."""
    if name == "ModelConfig":
        from makemore.model import ModelConfig

        return ModelConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
