"""Pictures with letters of any script."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Makemore
from matplotlib import font_manager
from PIL import Image

from makemore.data import Alphabet
from sweeps.task.fonts import find_font
from sweeps.task.language_model.pictures import draw_embedding

SCRIPTS = {
    "cyrillic": ["привет", "мир"],
    "arabic": ["سلام", "عالم", "كتاب"],
    "chinese": ["北京", "上海", "广州"],
    "emoji": ["🙂🚀", "👍🏽", "🚀🚀"],
    "devanagari": ["हिन्दी", "नमस्ते"],
}


def draw(words: list[str], folder: Path) -> Path:
    alphabet = Alphabet.of(words, ".")
    generator = torch.Generator().manual_seed(0)
    draw_embedding(torch.randn(alphabet.vocab_size, 2, generator=generator), alphabet, folder / "embedding.png")
    return folder / "embedding.png"


@pytest.mark.parametrize("words", SCRIPTS.values(), ids=SCRIPTS)
def test_every_character_is_drawn_or_named(words: list[str], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib warns of a letter that it draws as a box
        path = draw(words, tmp_path)
    assert np.asarray(Image.open(path).convert("L")).std() > 5
    legend = (
        path.with_suffix(".txt").read_text(encoding="utf-8").splitlines() if path.with_suffix(".txt").exists() else []
    )
    named = {chr(int(line.split("U+")[1].split()[0], 16)) for line in legend}
    characters = set("".join(words))
    assert named <= characters
    assert all(find_font(character) for character in characters - named)
    assert [line.split()[0] for line in legend] == [f"#{number}" for number in range(1, len(legend) + 1)]


def test_where_no_font_has_a_character_a_number_stands_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    find_font.cache_clear()
    try:
        draw(["北京", "ab"], tmp_path)
    finally:
        find_font.cache_clear()
    assert (tmp_path / "embedding.txt").read_text(encoding="utf-8").splitlines() == [
        "#1 京 U+4EAC CJK UNIFIED IDEOGRAPH-4EAC",
        "#2 北 U+5317 CJK UNIFIED IDEOGRAPH-5317",
    ]


def test_an_installed_font_is_used_where_there_is_one(tmp_path: Path) -> None:
    if find_font("北") is None:
        pytest.skip("no Chinese font is installed")
    draw(["北京", "上海"], tmp_path)
    assert not (tmp_path / "embedding.txt").exists()


def test_what_cannot_be_seen_is_named(tmp_path: Path) -> None:
    draw(["a b", "e\u0301"], tmp_path)
    assert (tmp_path / "embedding.txt").read_text().splitlines() == [
        "#1 U+0020 SPACE",
        "#2 U+0301 COMBINING ACUTE ACCENT",
    ]


def test_latin_words_need_no_legend(tmp_path: Path) -> None:
    draw(["emma", "josé"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["embedding.png"]


def test_a_list_of_chinese_words_is_trained_and_drawn(makemore: Makemore, workdir: Path) -> None:
    letters = [chr(0x4E00 + number) for number in range(40)]
    words = [one + other for one in letters for other in letters][:400]
    (workdir / "城市.txt").write_text("\n".join(words), encoding="utf-8")
    small = ("train.steps=20", "train.evaluations=2", "model.hidden_neurons=8")
    answer = makemore("train", "data=file", "data.path='城市.txt'", *small)
    assert answer.code == 0, answer.err
    [picture] = (workdir / "mlruns/artifacts").rglob("embedding.png")
    assert picture.with_suffix(".txt").exists() == (find_font("一") is None)
