"""The losses of a split's items, written and read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sweeps.errors import RequestError
from sweeps.task.item_losses import read_item_losses, write_item_losses


def test_item_losses_are_read_as_they_were_written(tmp_path: Path) -> None:
    losses, terms = torch.tensor([1 / 3, 2.5, 0.0], dtype=torch.float64), torch.tensor([4, 7, 1])
    write_item_losses(tmp_path / "a.safetensors", losses, terms)
    read = read_item_losses(tmp_path / "a.safetensors")
    assert torch.equal(read[0], losses)
    assert torch.equal(read[1], terms.double())


def test_losses_and_terms_of_different_numbers_of_items_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both must be"):
        write_item_losses(tmp_path / "a.safetensors", torch.zeros(3), torch.zeros(2))


@pytest.mark.parametrize("content", ["absent", "text", "other tensors", "float32", "two numbers of items"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {
        "other tensors": {"weights": torch.zeros(3)},
        "float32": {"losses": torch.zeros(3), "terms": torch.zeros(3)},
        "two numbers of items": {"losses": torch.zeros(3).double(), "terms": torch.zeros(2).double()},
    }
    if content == "text":
        path.write_text("losses")
    elif content in tensors:
        save_file(tensors[content], path)
    with pytest.raises(RequestError, match="is not a file of item losses"):
        read_item_losses(path)
