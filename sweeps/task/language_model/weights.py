"""A language model's weights on disk, together with the config and the alphabet that their use needs."""

import dataclasses
import json
from pathlib import Path

from makemore.data import Alphabet
from sweeps.errors import RequestError
from sweeps.task.language_model.models import model_node, read_model
from sweeps.task.language_model.trained import TrainedModel
from sweeps.task.weights import read_weights, write_weights


def save_weights(path: Path, trained: TrainedModel, train_fingerprint: str) -> str:
    """The digest of a model's weights, after writing them; `train_fingerprint` is that of its train words."""
    metadata = {
        "model": json.dumps(model_node(trained.name, trained.config)),
        "alphabet": json.dumps(dataclasses.asdict(trained.alphabet)),
        "train_fingerprint": train_fingerprint,
    }
    return write_weights(path, trained.module.state_dict(), metadata)


def load_weights(path: Path) -> TrainedModel:
    """The model whose weights `save_weights` wrote; a user's own class is imported by name from their Python path.

    Raises:
        RequestError: the file is not a weights file of this project, or the class of its model cannot be found.
    """
    try:
        weights, metadata = read_weights(path)
        alphabet = Alphabet(**json.loads(metadata["alphabet"]))
        name, config = read_model(json.loads(metadata["model"]))
        module = config.restore(alphabet.vocab_size, weights)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{path} is not a weights file of this project ({error})") from None
    return TrainedModel(
        module, name=name, config=config, alphabet=alphabet, train_fingerprint=metadata["train_fingerprint"]
    )
