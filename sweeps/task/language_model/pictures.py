"""Pictures of one run: its loss curve, and what its embedding has made of the characters.

Each trial of a neural model has both. Pillow draws them in 5 ms each, where Matplotlib would take 20 to 30.
"""

import functools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from makemore.data import Alphabet
from makemore.train import Evaluation

_MOST = 150  # characters in the picture of an embedding: more would hide each other
_COLORS = {"boundary": ("green", "#d4f0d4"), "vowel": ("firebrick", "mistyrose"), "other": ("navy", "lavender")}
_SIZE = 360  # pixels of a side of that picture
_CURVE = (400, 270)  # pixels of the picture of a loss curve
_LINES = {"train": "#1f77b4", "dev": "#ff7f0e"}


def draw_curve(curve: Sequence[Evaluation], path: Path) -> None:
    """Losses against steps, as a PNG file."""
    image, draw = _canvas(*_CURVE)
    width, height = image.size
    steps = [point.step for point in curve]
    losses = {"train": [point.train_loss for point in curve], "dev": [point.dev_loss for point in curve]}
    across = _Axis(steps, 120, width - 30, whole=True)
    up = _Axis([loss for line in losses.values() for loss in line], height - 90, 30)
    small = _font(20)
    for tick, x in across.ticks:
        draw.line((x, up.start, x, up.end), fill="gainsboro", width=2)
        draw.text((x, up.start + 10), f"{tick:,.0f}", fill="black", font=small, anchor="mt")
    for tick, y in up.ticks:
        draw.line((across.start, y, across.end, y), fill="gainsboro", width=2)
        draw.text((across.start - 10, y), f"{tick:.6g}", fill="black", font=small, anchor="rm")
    draw.rectangle((across.start, up.end, across.end, up.start), outline="black", width=2)
    draw.text(((across.start + across.end) / 2, height - 14), "step", fill="black", font=small, anchor="mb")
    draw.text((14, 4), "loss, nats per character", fill="black", font=small)
    for place, (name, line) in enumerate(losses.items()):
        points = [(across.place(step), up.place(loss)) for step, loss in zip(steps, line, strict=True)]
        draw.line(points, fill=_LINES[name], width=4, joint="curve")
        for point in points:
            draw.circle(point, 6, fill=_LINES[name])
        # Where a falling curve is not.
        draw.text((across.end - 16, up.end + 14 + 30 * place), name, fill=_LINES[name], font=_font(24), anchor="rt")
    _save(image, path)


class _Axis:
    """Where values stand between two ends, in pixels, with ticks at round ones."""

    def __init__(self, values: Sequence[float], start: float, end: float, whole: bool = False) -> None:
        self.start, self.end = start, end
        low, high = min(values), max(values)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        self._low, self._high = low - margin, high + margin
        ticks = MaxNLocator(5, integer=whole, min_n_ticks=1).tick_values(self._low, self._high)
        self.ticks = [(float(tick), self.place(tick)) for tick in ticks if self._low <= tick <= self._high]

    def place(self, value: float) -> float:
        """Of a value, in pixels."""
        return self.start + (self.end - self.start) * (value - self._low) / (self._high - self._low)


def draw_embedding(C: Tensor, alphabet: Alphabet, path: Path) -> None:
    """The characters where the embedding C (vocab_size, embedding_size) has them, as a PNG file.

    Two dimensions as they are; of more, the two in which the characters differ most (PCA).
    """
    points, share = project(C)
    points = points[:_MOST] / points[:_MOST].abs().max().clamp(min=1e-12)
    image, draw = _canvas(_SIZE, _SIZE)
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
    _save(image, path)


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


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Twice as large as the picture will be: reduced, its edges are smooth."""
    image = Image.new("RGB", (2 * width, 2 * height), "white")
    return image, ImageDraw.Draw(image)


def _save(image: Image.Image, path: Path) -> None:
    """Of 64 colours: half of the time that all would take, and of the bytes."""
    image.reduce(2).quantize(64, Image.Quantize.FASTOCTREE).save(path, compress_level=1)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The one that comes with Matplotlib; a character that it lacks is drawn as a box."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
