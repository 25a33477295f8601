"""Weights on disk: safetensors, which runs no code when loaded, with what is needed to use them beside."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from makemore.data import Alphabet
from makemore.model import MLP
from makemore.ngram import Ngram, NgramConfig
from sweeps.config.reading import MODELS, ModelConfig, name_of
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import Source


@dataclass(frozen=True)
class SavedModel:
    """A model read back, and the alphabet of its tokens."""

    model: MLP | Ngram
    alphabet: Alphabet
    train_fingerprint: str  # of the words it was trained on


def save_weights(path: Path, model: MLP | Ngram, source: Source) -> str:
    """Write the weights of a model trained on a source; returns their digest."""
    metadata = {
        "model": json.dumps({"name": name_of(MODELS, model.config), **dataclasses.asdict(model.config)}),
        "alphabet": json.dumps(dataclasses.asdict(source.alphabet)),
        "train_fingerprint": source.split.fingerprint("train"),
    }
    weights = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, path, metadata)
    return digest_weights(weights)


def digest_weights(weights: dict[str, Tensor]) -> str:
    """SHA-256, in hex, of names, shapes and values: equal weights have equal digests.

    Not of the file, in which the order of the metadata is another one each time.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)} {weights[name].dtype}\n".encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def load_weights(path: Path) -> SavedModel:
    """Read weights that `save_weights` wrote.

    Raises:
        RequestError: not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            alphabet = Alphabet(**json.loads(metadata["alphabet"]))
            config = json.loads(metadata["model"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            model = _restore(MODELS[config.pop("name")](**config), alphabet.vocab_size, weights)
    except Exception as error:
        raise RequestError(f"{path} is not a weights file of this project ({error})") from None
    return SavedModel(model, alphabet, metadata["train_fingerprint"])


def _restore(config: ModelConfig, vocab_size: int, weights: dict[str, Tensor]) -> MLP | Ngram:
    if isinstance(config, NgramConfig):
        return Ngram.from_state(config, weights)
    model = MLP(config, vocab_size, torch.Generator())
    model.load_state_dict(weights)
    return model
