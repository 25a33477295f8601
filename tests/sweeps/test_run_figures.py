"""Pictures of runs."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from makemore.data import Alphabet
from sweeps.run_figures import draw_embedding, kind_of, project


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
