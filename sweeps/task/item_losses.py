"""The loss of each item of a split on disk, for paired comparisons and intervals over items."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sweeps.errors import RequestError

DEV_LOSSES = "dev_losses.safetensors"  # the artifact of a complete run


def write_item_losses(path: Path, losses: Tensor, terms: Tensor, units: Tensor | None = None) -> None:
    """Write the losses of a split's items, in the split's order.

    Args:
        losses: the sum of each item's loss terms, (n,); for a language model in nats.
        terms: the number of each item's terms, (n,); for a language model its characters and one boundary.
        units: the index of each item's unit, (n,) int64; None if each item is one. See `sweeps.task.items.units_of`.

    Raises:
        ValueError: the shapes differ or are not (n,).
    """
    if losses.ndim != 1 or losses.shape != terms.shape:
        raise ValueError(f"losses are {tuple(losses.shape)} and terms {tuple(terms.shape)}; both must be (n,)")
    tensors = {name: tensor.detach().cpu().double() for name, tensor in (("losses", losses), ("terms", terms))}
    tensors |= {} if units is None else {"units": units}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def read_item_losses(path: Path) -> tuple[Tensor, Tensor]:
    """Each item's sum of losses and number of terms, as `write_item_losses` wrote them; both (n,) float64.

    Raises:
        RequestError: the file is not a file of item losses.
    """
    try:
        tensors = load_file(path)
        losses, terms = tensors["losses"], tensors["terms"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RequestError(f"{path} is not a file of item losses ({error})") from None
    if losses.ndim != 1 or losses.shape != terms.shape or {losses.dtype, terms.dtype} != {torch.float64}:
        raise RequestError(f"{path} is not a file of item losses (losses and terms must be (n,) float64)")
    return losses, terms


def read_units(path: Path) -> Tensor | None:
    """The index of each item's unit, (n,) int64, as `write_item_losses` wrote it; None if each item is one."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("units") if "units" in file.keys() else None  # noqa: SIM118 - it is no dict
