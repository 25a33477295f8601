"""A list of words as an MLflow dataset: its parts are recorded by digest, as inputs of the runs that read them."""

import json

from mlflow.entities import Dataset, DatasetInput, InputTag, Run

from sweeps.task.items import Items

_DIGEST_LENGTH = 32  # MLflow takes at most 36 characters
_CONTEXT = "mlflow.data.context"  # the tag that says which part of its list a dataset is


def dataset_input(items: Items, part: str) -> DatasetInput:
    """A list's part "train" or "dev", as an input of a run."""
    words = {"train": items.split.train, "dev": items.split.dev}[part]
    profile = json.dumps({"words": len(words), "sha256": items.split.fingerprint(part)})
    name = f"{items.name}-{items.split.rule}-{part}"
    where = items.path.name if items.path else items.name
    dataset = Dataset(name, dataset_digest(items, part), "local", json.dumps({"uri": where}), profile=profile)
    return DatasetInput(dataset, [InputTag(_CONTEXT, part)])


def dataset_digest(items: Items, part: str) -> str:
    """The digest that MLflow records for a list's part: equal digests mean equal words in equal order."""
    return items.split.fingerprint(part)[:_DIGEST_LENGTH]


def recorded_digest(run: Run, part: str) -> str | None:
    """The digest that a run has recorded for a part of its data; None where it has recorded none."""
    dataset = recorded_dataset(run, part)
    return str(dataset.digest) if dataset else None


def recorded_dataset(run: Run, part: str) -> Dataset | None:
    """What a run has recorded of a part of its data; None where it has recorded nothing."""
    for item in run.inputs.dataset_inputs if run.inputs else []:
        if any(tag.key == _CONTEXT and tag.value == part for tag in item.tags):
            return item.dataset
    return None
