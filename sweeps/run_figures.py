"""Pictures of one run: its loss curve, and what its embedding has made of the characters."""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from makemore.data import Alphabet
from makemore.train import Evaluation

_MOST = 150  # characters in the picture of an embedding: more would hide each other
_COLORS = {"boundary": ("green", "honeydew"), "vowel": ("firebrick", "mistyrose"), "other": ("navy", "lavender")}
_SIZE = 360  # pixels of a side of that picture


def draw_curve(curve: Sequence[Evaluation], path: Path) -> None:
    """Losses against steps, as a PNG file."""
    figure, axes, lines = _empty_curve()
    steps = [point.step for point in curve]
    for line, losses in zip(lines, zip(*((one.train_loss, one.dev_loss) for one in curve), strict=True), strict=True):
        line.set_data(steps, losses)
    axes.relim()
    axes.autoscale_view()
    figure.savefig(path, dpi=80, pil_kwargs={"compress_level": 1})


def draw_embedding(C: Tensor, alphabet: Alphabet, path: Path) -> None:
    """The characters where the embedding C (vocab_size, embedding_size) has them, as a PNG file.

    Two dimensions as they are; of more, the two in which the characters differ most (PCA).
    """
    points, share = project(C)
    points = points[:_MOST] / points[:_MOST].abs().max().clamp(min=1e-12)
    # Drawn twice as large and reduced, for smooth edges. Matplotlib would take five times as long: 20 ms a trial.
    image = Image.new("RGB", (2 * _SIZE, 2 * _SIZE), "white")
    draw = ImageDraw.Draw(image)
    places = [(_SIZE * (1 + 0.92 * x), _SIZE * (1.03 - 0.92 * y)) for x, y in points.tolist()]
    colors = [_COLORS[kind_of(character, alphabet.boundary)] for character in alphabet.itos]
    for place, (_, fill) in zip(places, colors, strict=False):
        draw.circle(place, 22, fill=fill)
    for place, (color, _), character in zip(places, colors, alphabet.itos, strict=False):
        draw.text(place, character, fill=color, font=_font(28), anchor="mm")
    size = C.shape[1]
    title = f"{size} dimensions" + (f", {share:.0%} of their variance shown" if size > 2 else "")
    draw.text((16, 10), title, fill="dimgray", font=_font(22))
    draw.rectangle((0, 0, 2 * _SIZE - 1, 2 * _SIZE - 1), outline="silver", width=2)
    image.reduce(2).save(path, compress_level=1)


def project(C: Tensor) -> tuple[Tensor, float]:
    """Points (n, 2) for the rows of C (n, d), and the share of their variance that these show."""
    C = C.detach().cpu().float()
    centered = C - C.mean(0)
    if C.shape[1] <= 2:
        return torch.nn.functional.pad(C, (0, 2 - C.shape[1])), 1.0
    _, values, axes = torch.linalg.svd(centered, full_matrices=False)
    variance = values.square()
    return centered @ axes[:2].t(), float(variance[:2].sum() / variance.sum().clamp(min=1e-12))


def kind_of(character: str, boundary: str) -> str:
    """ "boundary", "vowel" (with or without accents), or "other"."""
    if character == boundary:
        return "boundary"
    base = unicodedata.normalize("NFD", character)[0].lower()
    return "vowel" if base in "aeiouæøœıаеиоуыэюяαεηιουω" else "other"


@functools.cache
def _empty_curve() -> tuple[Figure, Axes, list[Line2D]]:
    """A figure for all curves that a process draws: a new one each time takes half as long again."""
    figure = Figure(figsize=(5, 3.4))
    axes = figure.add_axes((0.13, 0.14, 0.84, 0.83))  # a layout engine would take as long as the drawing
    lines = [axes.plot([], [], marker=".", label=label)[0] for label in ("train", "dev")]
    axes.set(xlabel="step", ylabel="loss, nats per character")
    axes.locator_params(nbins=5)  # most of the time goes into the labels of ticks
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")  # where a falling curve is not; the best place takes time to find
    return figure, axes, lines


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The one that comes with Matplotlib; a character that it lacks is drawn as a box."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
