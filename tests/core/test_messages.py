"""What a message says of what was found: one line, and short, whatever was found."""

import pytest

from zsamb_core.messages import MOST, short


@pytest.mark.parametrize("count", [MOST - 1, MOST])
def test_what_is_short_is_said_whole(count):
    assert short("x" * count) == "x" * count
    assert short(["a", 1]) == "['a', 1]" and short("a\n\t b ") == "a b"


@pytest.mark.parametrize("count", [MOST + 1, 5 * MOST, 10**6])
def test_of_what_is_long_the_middle_is_left_out(count):
    text = short(f"begin {'x' * count} end")
    assert len(text) == MOST and MOST < 200
    assert text.startswith("begin x") and text.endswith("x end") and " ... " in text


def test_blanks_and_line_breaks_make_no_long_text():
    text = short("a" + " \n" * 10**6 + "b")
    assert "\n" not in text and len(text) <= MOST and text.startswith("a") and text.endswith("b")
