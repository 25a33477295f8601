"""Weights on disk: safetensors, which runs no code when loaded."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write named tensors and text about them; returns the digest of the tensors."""
    kept = {name: weight.detach().cpu().clone().contiguous() for name, weight in weights.items()}  # tied ones are apart
    save_file(kept, path, dict(metadata))
    return digest_weights(kept)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of a file that `write_weights` wrote, and the text about them."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of names, shapes and values: equal weights have equal digests.

    Not of the file, in which the order of the metadata is another one each time.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)} {weights[name].dtype}\n".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()
