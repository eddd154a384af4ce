"""What a message says of what was found: one line, and short, whatever was found."""

import pytest

from zsamb_core.messages import MOST, short


@pytest.mark.parametrize("count", [MOST - 1, MOST])
def test_what_is_short_is_said_whole(count):
    assert short("x" * count) == "x" * count
    assert short(["a", 1]) == "['a', 1]" and short("a\n\t b ") == "a b"


@pytest.mark.parametrize("count", [MOST + 1, 5 * MOST, 10**6])
def test_of_what_is_long_the_middle_is_left_out(count):
    said = short(f"begin {'x' * count} end")
    assert len(said) == MOST and MOST < 200
    assert said.startswith("begin x") and said.endswith("x end") and " ... " in said


def test_blanks_and_line_breaks_make_no_long_text():
    said = short("a" + " \n" * 10**6 + "b")
    assert "\n" not in said and len(said) <= MOST and said.startswith("a") and said.endswith("b")
