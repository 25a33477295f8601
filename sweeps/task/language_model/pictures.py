"""The pictures of a language model: its loss curve, and the positions of the characters in its embedding."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from makemore.data import Alphabet
from sweeps.task.fonts import find_font, is_visible

_MOST = 150  # characters in the picture of an embedding; more would cover each other
_COLORS = {"boundary": ("green", "#d4f0d4"), "vowel": ("firebrick", "mistyrose"), "other": ("navy", "lavender")}
_LINES = {"train_loss": ("train", "#1f77b4"), "dev_loss": ("dev", "#ff7f0e")}


def draw_curve(curve: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw losses in nats per character against steps, as a PNG file.

    Args:
        curve: for each evaluation its step, train_loss and dev_loss.
    """
    figure = Figure(figsize=(4.4, 3))
    axes = figure.add_axes((0.16, 0.16, 0.8, 0.8))
    for key, (label, color) in _LINES.items():
        known = [point for point in curve if key in point]
        axes.plot(
            [point["step"] for point in known],
            [point[key] for point in known],
            color=color,
            marker="o",
            markersize=3,
            label=label,
        )
    axes.set(xlabel="step", ylabel="loss, nats per character")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(alpha=0.4)
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=100)


def draw_embedding(C: Tensor, alphabet: Alphabet, path: Path) -> None:
    """Draw the characters at their positions in the embedding C (vocab_size, embedding_size), as a PNG file.

    With more than two dimensions, the two directions in which the characters differ most are drawn (PCA). A character
    that cannot be seen, or that no installed font has, is drawn as a number; a text file beside the picture names it.
    """
    points, share = project(C)
    characters = alphabet.itos[:_MOST]
    fonts = {character: find_font(character) if is_visible(character) else None for character in characters}
    numbered = [character for character in characters if fonts[character] is None]
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.88))
    for (x, y), character in zip(points[:_MOST].tolist(), characters, strict=True):
        color, fill = _COLORS[kind_of(character, alphabet.boundary)]
        label = character if fonts[character] else f"#{numbered.index(character) + 1}"
        axes.plot(x, y, marker="o", markersize=15, color=fill)
        axes.annotate(
            label, (x, y), color=color, ha="center", va="center", parse_math=False, fontproperties=fonts[character]
        )
    size = C.shape[1]
    title = f"{size} dimensions" + (f", {share:.0%} of their variance shown" if size > 2 else "")
    if numbered:
        lines = [f"#{number} {_in_words(character)}" for number, character in enumerate(numbered, 1)]
        path.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        title += f"\nnumbers: {path.stem}.txt"
    axes.set_title(title, fontsize=9, color="dimgray")
    axes.set(xticks=[], yticks=[])
    axes.margins(0.08)
    figure.savefig(path, dpi=90)


def _in_words(character: str) -> str:
    shown = f"{character} " if is_visible(character) else ""
    return f"{shown}U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def project(C: Tensor) -> tuple[Tensor, float]:
    """Points (n, 2) for the rows of C (n, d), and the share, in [0, 1], of the rows' variance that the points show."""
    C = C.detach().cpu().float()
    centered = C - C.mean(0)
    if C.shape[1] <= 2:
        return torch.nn.functional.pad(C, (0, 2 - C.shape[1])), 1.0
    _, values, axes = torch.linalg.svd(centered, full_matrices=False)
    variance = values.square()
    return centered @ axes[:2].t(), float(variance[:2].sum() / variance.sum().clamp(min=1e-12))


def kind_of(character: str, boundary: str) -> str:
    """The kind of a character: "boundary", "vowel" (with or without accents) or "other"."""
    if character == boundary:
        return "boundary"
    base = unicodedata.normalize("NFD", character)[0].lower()
    return "vowel" if base in "aeiouæøœıаеиоуыэюяαεηιουω" else "other"
