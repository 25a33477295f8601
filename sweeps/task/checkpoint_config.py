"""The key train.checkpoint."""

from dataclasses import dataclass

from makemore.limits import LimitError

_EVERY_SECONDS = 10.0  # between two checkpoints, at least


@dataclass(frozen=True)
class CheckpointConfig:
    """The key train.checkpoint: null (long trials only), true, false, or the least seconds between two."""

    checkpoint: bool | float | None

    def __post_init__(self) -> None:
        if not isinstance(self.checkpoint, bool | None) and not 0 <= self.checkpoint <= 86400:
            raise LimitError("checkpoint", self.checkpoint, "null, true, false, or a number of seconds up to 86400")

    @property
    def every(self) -> float:
        """The least seconds between two checkpoints."""
        return _EVERY_SECONDS if isinstance(self.checkpoint, bool | None) else self.checkpoint
