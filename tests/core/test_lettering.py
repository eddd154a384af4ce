"""Text in pictures: which font, which lines, and what no font shows."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from zsamb_core import lettering
from zsamb_core.lettering import INSTEAD, OWN, SYSTEM, font_at, font_for, lines_of


@pytest.fixture
def alone(monkeypatch):
    """A machine without other fonts than Pillow's."""
    monkeypatch.setattr(lettering, "_there", list)


def test_lines_are_no_wider_than_they_may_be_and_lose_no_word():
    text = "a cat in woodcut style with a hat"
    lines = lines_of(text, 15, 90, 9)
    assert len(lines.lines) > 2 and " ".join(lines.lines) == text and not lines.cut
    assert lines.width <= 90 and lines.height == len(lines.lines) * lines.step
    whole = lines_of(text, 15, 1000, 9)
    assert whole.lines == (text,) and whole.width > 90


def test_a_long_word_is_broken_and_a_narrow_line_ends():
    assert "".join(lines_of("w" * 40, 15, 60, 99).lines) == "w" * 40
    assert lines_of("abc", 15, 0, 9).lines == ("a", "b", "c")


def test_line_ends_stay_and_other_white_space_is_one_space():
    assert lines_of(" a \t b\n\nc ", 15, 500, 9).lines == ("a b", "c")
    assert lines_of("  \n", 15, 500, 9).lines == () and lines_of("", 15, 500, 9).width == 0


def test_what_is_too_long_ends_in_dots():
    lines = lines_of("one two three four five six seven", 15, 60, 2)
    assert lines.cut and len(lines.lines) == 2 and lines.lines[-1].endswith("...") and lines.width <= 60
    assert lines_of("x" * 10**6, 15, 60, 4).cut


@pytest.mark.parametrize("text", ["\u6728\u523b", "\u041a\u043e\u0442", "\ud800", "\x07"])
def test_what_no_font_shows_is_named_and_drawn_as_a_question(alone, text):
    lines = lines_of(f"a {text}", 15, 500, 9)
    assert lines.lacking == text and lines.lines == (f"a {INSTEAD * len(text)}",)


def test_pillow_s_own_font_comes_first_and_one_of_the_system_helps(monkeypatch):
    assert font_for("a cat, 0.81 (x)?!") == (OWN, "")
    if not lettering._there():
        pytest.skip("this machine has none of the fonts that are looked for")
    (name,) = lettering._there()[:1]
    monkeypatch.setattr(lettering, "_there", lambda: [name])
    assert font_for("\xc4rger") == (name, "") and name in SYSTEM
    assert lines_of("\xc4rger", 15, 500, 9).lines == ("\xc4rger",)
    assert lines_of("A\u0308rger", 15, 500, 9).lines == ("\xc4rger",)  # as macOS writes it
    assert font_for("\U0010fffd a") == (OWN, "\U0010fffd")  # as good as any


def test_letters_of_all_fonts_stand_on_one_line():
    def lowest(name):
        picture = Image.new("L", (100, 60))
        lines = lettering.Lines(("HHH",), font_at(name, 30), 39)
        lines.draw(ImageDraw.Draw(picture), 5, 5, 255)
        return int(np.asarray(picture).any(1).nonzero()[0].max())

    assert {lowest(name) for name in (OWN, *lettering._there())} == {34}
