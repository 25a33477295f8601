"""Update rules and their constants; the learning rate comes from the schedule."""

from dataclasses import dataclass

from makemore.limits import check


@dataclass(frozen=True)
class SGD:
    """Plain stochastic gradient descent: w -= lr * (gradient + weight_decay * w)."""

    weight_decay: float

    def __post_init__(self) -> None:
        check("weight_decay", self.weight_decay, low=0)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float

    def __post_init__(self) -> None:
        check("weight_decay", self.weight_decay, low=0)
        check("beta1", self.beta1, low=0, high=1, closed="[)")
        check("beta2", self.beta2, low=0, high=1, closed="[)")
        check("epsilon", self.epsilon, low=0, closed="(]")


Optimizer = SGD | AdamW
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adamw": AdamW}
