"""Weights on disk as safetensors, a format that runs no code when it is loaded."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The digest of named tensors, after writing them with texts about them."""
    # safetensors refuses tensors that share memory, as tied weights do: the clones are separate.
    kept = {name: weight.detach().cpu().clone().contiguous() for name, weight in weights.items()}
    try:
        save_file(kept, path, dict(metadata))
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    return digest_weights(kept)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of a file that `write_weights` wrote, and the texts about them."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 (hex) of names, shapes, types and values: equal weights have equal digests.

    The file itself has no fixed digest, because the order of its metadata varies.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)} {weights[name].dtype}\n".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()
