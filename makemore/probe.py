"""Tries out a model of one's own before it is trained, so that a mistake is one clear line and not a lost study."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from makemore.model import ModelConfig

_ROWS = 2
_TOLERANCE = 1e-4  # of logits, relative to the largest: rounding differs between rows of a batch


class ModelError(ValueError):
    """A model of one's own is not what its class promises; the message says what was expected."""


@torch.no_grad()
def probe(config: "ModelConfig", vocab_size: int) -> None:
    """Build an untrained module and compare what it does with what its class promises.

    Raises:
        ModelError: building it or calling it fails, or its output is not the promised one.
    """
    name = type(config).__name__
    block_size = getattr(config, "block_size", None)
    if not isinstance(block_size, int) or block_size < 1:
        raise ModelError(f"{name}.block_size is {block_size!r}; it must be an integer >= 1")
    try:
        model = config.new(vocab_size, seed=0)
    except Exception as error:
        raise ModelError(f"{name}.build raised {_describe(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name}.build returned {_kind(model)}; it must return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"the module that {name}.build returned has no trainable parameters")
    model.eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(vocab_size, (_ROWS, block_size), generator=generator)
    _check_logits(config, _call(name, model, x), vocab_size)
    if config.every_position:
        _check_causality(name, model, torch.randint(vocab_size, (block_size,), generator=generator), vocab_size)


def _call(name: str, model: nn.Module, x: Tensor) -> object:
    try:
        return model(x)
    except Exception as error:
        raise ModelError(f"the module of {name} raised {_describe(error)} on {_kind(x)}") from error


def _check_logits(config: "ModelConfig", logits: object, vocab_size: int) -> None:
    shape = (_ROWS, config.block_size, vocab_size) if config.every_position else (_ROWS, vocab_size)
    if isinstance(logits, Tensor) and logits.shape == shape and logits.is_floating_point():
        return
    cure = ""
    if isinstance(logits, Tensor) and logits.shape == (_ROWS, config.block_size, vocab_size):
        cure = "; for logits at every position, set every_position = True"
    raise ModelError(
        f"the module of {type(config).__name__} returned {_kind(logits)}; expected logits, a floating-point tensor of "
        f"shape {shape}{cure}"
    )


def _check_causality(name: str, model: nn.Module, sequence: Tensor, vocab_size: int) -> None:
    """Change all tokens after each position in turn: the logits up to there must stay as they are."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # weights that start at zero would hide what a module looks at
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    last = len(sequence) - 1
    is_later = torch.ones(len(sequence), len(sequence), dtype=torch.bool).triu(1)
    changed = torch.where(is_later, (sequence + 1) % vocab_size, sequence)  # in row t, the tokens after position t
    logits = model(changed)  # the last row is the sequence itself
    differs = (logits - logits[last]).abs().amax(2) > _TOLERANCE * logits.abs().max().clamp(min=1)
    seen = (differs & ~is_later).nonzero().tolist()
    if seen:
        position = seen[0][1]
        raise ModelError(
            f"the module of {name} is not causal: its logits at position {position} depend on later tokens, so it "
            "would see the answer; use a causal mask, or a recurrent net in one direction, with batch_first=True"
        )


def _kind(value: object) -> str:
    """A tensor by its shape and dtype, anything else by its type."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and {value.dtype}"
    return f"an object of type {type(value).__name__}"


def _describe(error: Exception) -> str:
    """The exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
