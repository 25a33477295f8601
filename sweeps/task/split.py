"""The rule by which items are dealt into train, dev and test."""

from dataclasses import dataclass

from makemore.data import SPLIT_RULES
from makemore.limits import LimitError, check


@dataclass(frozen=True)
class SplitConfig:
    """The rule and the seed by which items are dealt into train, dev and test."""

    rule: str
    seed: int

    def __post_init__(self) -> None:
        if self.rule not in SPLIT_RULES:
            raise LimitError("split", self.rule, " or ".join(SPLIT_RULES))
        check("split_seed", self.seed, low=0, high=2**63 - 1)
