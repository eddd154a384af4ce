"""Text in pictures: a font that shows it, and lines that fit.

Pillow's own font is the same on every machine, and has the letters of English alone. For others a font of
the system is looked for; none is installed.
"""

import unicodedata
from contextlib import suppress
from functools import cache, lru_cache
from typing import NamedTuple, TypeAlias

from PIL import ImageDraw, ImageFont

Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont
OWN = ""  # Pillow's
# Files as Windows, macOS and Linux call them: first of many European letters, then of East Asian ones too.
SYSTEM = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "segoeui.ttf", "arial.ttf",
    "Arial.ttf", "Arial Unicode.ttf", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc",
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf",
    "simsun.ttc", "msgothic.ttc", "malgun.ttf", "AppleSDGothicNeo.ttc",
)  # fmt: skip
UNKNOWN = "\uffff"  # no character: a font draws for it what it draws for all that it lacks
INSTEAD = "?"
LINE = 1.3  # of a line's height, in sizes
LONGEST = 2000  # characters of which lines are made


class Lines(NamedTuple):
    """Text as it is drawn. ``width`` and ``height`` in pixels; ``lacking``: the characters of the text that
    no font here shows, drawn as a question mark; ``cut``: whether its end is left out.
    """

    lines: tuple[str, ...]
    font: Font
    step: int
    lacking: str = ""
    cut: bool = False

    @property
    def width(self) -> int:
        return max((-int(-self.font.getlength(line) // 1) for line in self.lines), default=0)

    @property
    def height(self) -> int:
        return self.step * len(self.lines)

    def draw(self, pen: ImageDraw.ImageDraw, x: int, y: int, ink: tuple[int, int, int]) -> None:
        """From the upper left corner (x, y) on; lines of unlike fonts stand on one height."""
        anchored = isinstance(self.font, ImageFont.FreeTypeFont)
        for i, line in enumerate(self.lines):
            down = i * self.step + (round(self.step / LINE) if anchored else 0)
            pen.text((x, y + down), line, ink, self.font, anchor="ls" if anchored else None)


def lines_of(text: str, size: int, width: int, most: int) -> Lines:
    """``text`` at ``size`` px in lines of at most ``width`` px, at least one character in each; further than
    ``most`` lines it is cut. Its own line ends stay, other white space is one space.
    """
    paragraphs = [" ".join(line.split()) for line in unicodedata.normalize("NFC", text).splitlines()]
    kept = "\n".join(paragraphs)[:LONGEST]
    name, lacking = font_for(kept)
    font = font_at(name, size)
    drawn = "".join(INSTEAD if c in lacking else c for c in kept)
    lines = [line for part in drawn.splitlines() if part for line in _wrapped(font, part, width)]
    cut = len(lines) > most or len("\n".join(paragraphs)) > LONGEST
    if cut:
        lines = [*lines[: most - 1], _shortened(font, lines[min(most, len(lines)) - 1], width)]
    return Lines(tuple(lines), font, round(size * LINE), lacking, cut)


def font_for(text: str) -> tuple[str, str]:
    """(name for `font_at`, characters that it lacks): Pillow's own font, or the first of the system's that
    shows more of the text.
    """
    best, lacking = OWN, _lacking(OWN, text)
    for name in _there() if lacking else ():
        if len(found := _lacking(name, text)) < len(lacking):
            best, lacking = name, found
    return best, lacking


@cache
def font_at(name: str, size: int) -> Font:
    """Raises OSError where the system has none of this name, ImportError with a Pillow without FreeType."""
    return ImageFont.load_default(size) if name == OWN else ImageFont.truetype(name, size)


@cache
def _there() -> list[str]:
    """Of the system's fonts, those that this machine has."""
    there = []
    for name in SYSTEM:
        with suppress(OSError, ImportError):
            font_at(name, 24)
            there.append(name)
    return there


def _lacking(name: str, text: str) -> str:
    """Each once, in order."""
    return "".join(c for c in dict.fromkeys(text) if not c.isspace() and not _shows(name, c))


@lru_cache(8192)
def _shows(name: str, character: str) -> bool:
    font = font_at(name, 24)
    try:
        return bytes(font.getmask(character)) != bytes(font.getmask(UNKNOWN))
    except UnicodeError:  # half a surrogate pair; or Pillow's small font, which knows Latin-1 alone
        return False


def _wrapped(font: Font, text: str, width: int) -> list[str]:
    """Broken at spaces, and within words that are wider than a line, as Chinese ones are."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if line and font.getlength(joined) > width:
            lines.append(line)
            joined = word
        while font.getlength(joined) > width and (end := _fitting(font, joined, width)) < len(joined):
            lines.append(joined[:end])
            joined = joined[end:]
        line = joined
    return [*lines, line] if line else lines


def _fitting(font: Font, text: str, width: int) -> int:
    """How many characters fit, one at least."""
    end = 1
    while end < len(text) and font.getlength(text[: end + 1]) <= width:
        end += 1
    return end


def _shortened(font: Font, line: str, width: int) -> str:
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line.rstrip()}..."
