"""Scores as a picture: a matrix of cosines as squares, and bars."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

LOW, MIDDLE, HIGH = (43, 74, 139), (242, 240, 235), (176, 58, 46)  # of a cosine: -1, 0, 1
INK, PAPER, LINE = (34, 34, 34), (255, 255, 255), (205, 205, 205)
CELL, TEXT, MARGIN = 44, 14, 12


def color(cosine: float) -> tuple[int, int, int]:
    """Blue for -1 over white for 0 to red for 1."""
    to, part = (HIGH, cosine) if cosine > 0 else (LOW, -cosine)
    part = min(max(part, 0.0), 1.0)
    red, green, blue = (round(m + part * (t - m)) for m, t in zip(MIDDLE, to, strict=True))
    return red, green, blue


def matrix(
    values: torch.Tensor | Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], title: str
) -> Image.Image:
    """(n, m) cosines as colored squares, with their numbers where there is room."""
    values = torch.as_tensor(values)
    n, m = values.shape
    cell = CELL if max(n, m) <= 16 else max(1, 16 * CELL // max(n, m))
    font = _font()
    left = MARGIN + (max(_width(font, name) for name in rows) + 8 if cell == CELL else 0)
    top = MARGIN + 2 * TEXT + (TEXT + 6 if cell == CELL else 0)
    size = max(left + m * cell, MARGIN + _width(font, title)) + MARGIN, top + n * cell + MARGIN
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, INK, font)
    for i in range(n):
        for j in range(m):
            x, y, value = left + j * cell, top + i * cell, float(values[i, j])
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), color(value))
            if cell == CELL:
                number = f"{value:.2f}"
                ink = PAPER if abs(value) > 0.6 else INK
                draw.text((x + (cell - _width(font, number)) / 2, y + (cell - TEXT) / 2), number, ink, font)
        if cell == CELL:
            draw.text((MARGIN, top + i * cell + (cell - TEXT) / 2), rows[i], INK, font)
    if cell == CELL:
        for j, name in enumerate(columns):
            name = _shortened(font, name, cell)
            draw.text((left + j * cell + (cell - _width(font, name)) / 2, top - TEXT - 4), name, INK, font)
    return picture


def bars(values: Sequence[float], names: Sequence[str], title: str) -> Image.Image:
    """Lying bars from 0, to the left for negative values; the scale ends at -1 and 1, or further."""
    font = _font()
    left = MARGIN + max(_width(font, name) for name in names) + 8
    most = max(1.0, *(abs(v) for v in values))
    half = 160
    low = half if min(values) < 0 else 0
    width = max(left + low + half + 60, MARGIN + _width(font, title)) + MARGIN
    row, top = TEXT + 10, MARGIN + 2 * TEXT
    picture = Image.new("RGB", (width, top + row * len(values) + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, INK, font)
    zero = left + low
    draw.line((zero, top, zero, top + row * len(values)), LINE)
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        y, end = top + i * row, zero + value / most * half
        draw.text((MARGIN, y + 4), name, INK, font)
        if value:
            draw.rectangle((min(zero, end), y + 4, max(zero, end), y + row - 4), HIGH if value > 0 else LOW)
        draw.text((max(zero, end) + 6, y + 4), f"{value:.3f}", INK, font)
    return picture


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """One below the other."""
    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    sheet = Image.new("RGB", size, PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def _width(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str) -> int:
    return round(font.getlength(text))


def _shortened(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, text: str, width: int) -> str:
    while len(text) > 1 and _width(font, text) > width:
        text = text[:-1]
    return text
