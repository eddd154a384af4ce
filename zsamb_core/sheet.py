"""A contact sheet: pictures in rows, with labels beside, above and beneath.

Pictures are (H, W, 3) in 0..1. Each keeps its proportions, and stands at the upper left of its cell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .lettering import Lines, lines_of

PAPER, INK, PALE = (255, 255, 255), (0, 0, 0), (95, 95, 95)
TEXT = 15  # px, of small pictures; of large ones a sixteenth
BESIDE, ABOVE = 12, 6  # widths that labels may have: at most, and if pictures are narrower; in text sizes
MOST_LINES = 4
MOST_PIXELS = 2**27  # Pillow opens no picture of much more


class Row(NamedTuple):
    """``pictures`` (H, W, 3), None for an empty place; ``label`` and, paler, ``note`` stand beside them,
    ``captions`` beneath.
    """

    pictures: Sequence[Tensor | None]
    label: str = ""
    note: str = ""
    captions: Sequence[str] = ()


class Place(NamedTuple):
    """Upper left corner and size in pixels."""

    x: int
    y: int
    width: int
    height: int


class Layout:
    """Where everything stands. ``places``: by row and column, None where there is no picture; ``texts``:
    (x, y, lines, ink).
    """

    def __init__(self, text: int = TEXT) -> None:
        self.width = self.height = 0
        self.text = text
        self.places: list[list[Place | None]] = []
        self.texts: list[tuple[int, int, Lines, tuple[int, int, int]]] = []

    @property
    def lacking(self) -> list[str]:
        """The lines with characters that no font here shows, and those characters."""
        return [f"{' '.join(lines.lines)} ({lines.lacking})" for *_, lines, _ in self.texts if lines.lacking]

    @property
    def cut(self) -> list[str]:
        """The texts whose ends are left out."""
        return [" ".join(lines.lines) for *_, lines, _ in self.texts if lines.cut]


def laid_out(rows: Sequence[Row], heads: Sequence[str] = (), size: int = 0, gap: int = 6) -> Layout:
    """``heads``: one per column; ``size``: of each picture's longer side in px, 0 for its own; ``gap``: px
    between pictures, and around all. Raises ValueError for a sheet of too many pixels.
    """
    sizes = [[_size(picture, size) for picture in row.pictures] for row in rows]
    text = max(TEXT, max((side for row in sizes for pair in row for side in pair), default=0) // 16)
    beside = [[lines_of(t, text, BESIDE * text, MOST_LINES) for t in (row.label, row.note)] for row in rows]
    beneath = [[lines_of(t, text, 10**6, MOST_LINES) for t in row.captions] for row in rows]
    widths = _column_widths(sizes, beneath, heads, text)
    above = [lines_of(head, text, width, MOST_LINES) for head, width in zip(heads, widths, strict=False)]
    layout = Layout(text=text)
    label = max((lines.width for pair in beside for lines in pair), default=0)
    left = gap + (label + max(gap, text) if label else 0)
    xs = [left + sum(widths[:j]) + gap * j for j in range(len(widths))]
    layout.width = left + sum(widths) + gap * len(widths)
    head = max((lines.height for lines in above), default=0)
    for x, lines in zip(xs, above, strict=False):
        layout.texts.append((x, gap + head - lines.height, lines, INK))
    y = gap + (head + text // 3 if head else 0)
    for pairs, labels, captions in zip(sizes, beside, beneath, strict=True):
        y += _lay_row(layout, pairs, labels, captions, xs, y, gap) + gap
    layout.height = y
    _check_size(layout)
    return layout


def _lay_row(
    layout: Layout,
    sizes: list[tuple[int, int]],
    labels: list[Lines],
    captions: list[Lines],
    xs: list[int],
    y: int,
    gap: int,
) -> int:
    """Adds a row at ``y``, its label at half the pictures' height, and returns the row's height."""
    pictures = max((h for _, h in sizes), default=0)
    label = sum(lines.height for lines in labels)
    down = max(0, (label - pictures) // 2)  # of the pictures, beside a higher label
    at = y + max(0, (pictures - label) // 2)
    for lines, ink in zip(labels, (INK, PALE), strict=True):
        layout.texts.append((gap, at, lines, ink))
        at += lines.height
    places = [Place(x, y + down, w, h) if w else None for x, (w, h) in zip(xs, sizes, strict=False)]
    layout.places.append(places)
    bottom = max(y + label, y + down + pictures)
    for place, lines in zip(places, captions, strict=False):
        if place and lines.lines:
            under = place.y + place.height + layout.text // 5
            layout.texts.append((place.x, under, lines, PALE))
            bottom = max(bottom, under + lines.height + layout.text // 3)
    return bottom - y


def _column_widths(
    sizes: list[list[tuple[int, int]]], beneath: list[list[Lines]], heads: Sequence[str], text: int
) -> list[int]:
    """As wide as the widest picture and caption; a head makes a narrow column a little wider."""
    widths = [0] * max(map(len, sizes), default=0)
    for pairs, captions in zip(sizes, beneath, strict=True):
        for j, (w, _) in enumerate(pairs):
            widths[j] = max(widths[j], w, captions[j].width if j < len(captions) else 0)
    for j, head in enumerate(heads[: len(widths)]):
        widths[j] = max(widths[j], lines_of(head, text, ABOVE * text, MOST_LINES).width)
    return widths


def _size(picture: Tensor | None, size: int) -> tuple[int, int]:
    """(width, height) in the sheet."""
    if picture is None:
        return 0, 0
    height, width = picture.shape[:2]
    longer = max(width, height)
    if not size or longer == size:
        return width, height
    return max(1, round(width * size / longer)), max(1, round(height * size / longer))


def _check_size(layout: Layout) -> None:
    if layout.width * layout.height > MOST_PIXELS:
        raise ValueError(
            f"the sheet would have {layout.width} x {layout.height} pixels, expected"
            f" {MOST_PIXELS // 10**6} million at most. Choose a smaller size, or connect fewer pictures."
        )


def drawn(layout: Layout, rows: Sequence[Row]) -> Tensor:
    """The sheet (H, W, 3). Pictures of their own size are copied bit for bit; others are scaled with 8 bits
    by Lanczos.
    """
    paper = Image.new("RGB", (layout.width, layout.height), PAPER)
    pen = ImageDraw.Draw(paper)
    for x, y, lines, ink in layout.texts:
        lines.draw(pen, x, y, ink)
    sheet = torch.from_numpy(np.asarray(paper, np.float32) / 255)
    for places, row in zip(layout.places, rows, strict=True):
        for place, picture in zip(places, row.pictures, strict=True):
            if place is not None and picture is not None:
                there = sheet[place.y : place.y + place.height, place.x : place.x + place.width]
                there.copy_(_scaled(picture, place.width, place.height))
    return sheet


def _scaled(picture: Tensor, width: int, height: int) -> Tensor:
    if picture.shape[:2] == (height, width):
        return picture
    levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    scaled = Image.fromarray(levels).resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(scaled, np.float32) / 255)
