"""Pictures of runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from makemore.data import Alphabet
from sweeps.task.language_model.pictures import draw_curve, draw_embedding, kind_of, project

_DEV = (255, 127, 14)


def test_two_dimensions_are_drawn_as_they_are_and_one_lies_on_a_line() -> None:
    C = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert torch.equal(project(C)[0], C)
    points, share = project(C[:, :1])
    assert points.tolist() == [[1.0, 0.0], [3.0, 0.0]]
    assert share == 1.0


def test_wider_embeddings_are_projected_to_where_they_vary_most() -> None:
    generator = torch.Generator().manual_seed(0)
    C = torch.randn(27, 10, generator=generator) * torch.tensor([9.0, 5.0] + [0.1] * 8)
    points, share = project(C)
    assert share > 0.99
    assert float(points.var(0).sum()) == pytest.approx(float(C.var(0)[:2].sum()), rel=0.01)


@pytest.mark.parametrize(
    ("character", "kind"),
    [(".", "boundary"), ("a", "vowel"), ("É", "vowel"), ("å", "vowel"), ("b", "other"), ("ł", "other"), ("-", "other")],
)
def test_vowels_are_told_apart_with_or_without_accents(character: str, kind: str) -> None:
    assert kind_of(character, ".") == kind


@pytest.mark.parametrize("characters", ["abc", "aéł中😀 -", "".join(map(chr, range(0x4E00, 0x4E00 + 400)))])
def test_an_embedding_of_any_alphabet_is_drawn(characters: str, tmp_path: Path) -> None:
    alphabet = Alphabet(characters)
    draw_embedding(torch.randn(alphabet.vocab_size, 5), alphabet, tmp_path / "embedding.png")
    with Image.open(tmp_path / "embedding.png") as image:
        assert len(image.getcolors(maxcolors=1_000_000) or []) > 10


def test_an_embedding_whose_characters_all_lie_together_is_drawn(tmp_path: Path) -> None:
    draw_embedding(torch.zeros(4, 3), Alphabet("abc"), tmp_path / "embedding.png")
    assert (tmp_path / "embedding.png").stat().st_size > 0


def _pixels(path: Path, color: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where a picture has a color, x from the left and y from the top."""
    with Image.open(path) as image:
        return [(x, y) for y, x in np.argwhere((np.asarray(image.convert("RGB")) == color).all(axis=2)).tolist()]


def test_a_curve_falls_from_the_upper_left_to_the_lower_right(tmp_path: Path) -> None:
    losses = (3.0, 2.5, 2.25)
    curve = [{"step": step, "train_loss": loss - 0.1, "dev_loss": loss} for step, loss in enumerate(losses)]
    draw_curve(curve, tmp_path / "a.png")
    points = [(x, y) for x, y in _pixels(tmp_path / "a.png", _DEV) if x < 340]  # without the word in the corner
    left, right = min(points), max(points)
    assert (left[0] < 100, left[1] < 40) == (True, True)
    assert (right[0] > 300, 150 < right[1] < 225) == (True, True)  # the step axis is below


@pytest.mark.parametrize("losses", [(2.5,), (2.5, 2.5), (2.5, 2.5 - 1e-12), (0.0,), (250.0, 2.0)])
def test_a_curve_of_any_values_is_drawn(losses: tuple[float, ...], tmp_path: Path) -> None:
    curve = [{"step": 100_000 * step, "dev_loss": loss} for step, loss in enumerate(losses, start=1)]
    draw_curve(curve, tmp_path / "a.png")
    points = [(x, y) for x, y in _pixels(tmp_path / "a.png", _DEV) if x < 340]
    assert points
    assert all(x >= 60 and 15 <= y <= 225 for x, y in points)
