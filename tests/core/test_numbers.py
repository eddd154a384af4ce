"""Numbers that people type, with a comma as a separator or as a decimal one."""

import pytest

from zsamb_core.numbers import comma_note, read_numbers


@pytest.mark.parametrize(
    "text, row",
    [
        ("1", [1]),
        ("0.5", [0.5]),
        ("0, 1, 0.5", [0, 1, 0.5]),
        ("0 1 0.5", [0, 1, 0.5]),
        ("0,1,0", [0, 1, 0]),
        ("0.5,1", [0.5, 1]),
        ("0, 1,0.5", [0, 1, 0.5]),
        ("", []),
    ],
)
def test_what_is_plain_is_read_without_a_word(text, row):
    assert read_numbers(text) == row
    assert comma_note(text) == ""


@pytest.mark.parametrize(
    "text, row, point",
    [("0,5", [0, 5], "0.5"), ("1,0", [1, 0], "1.0"), ("0,5, 1", [0, 5, 1], "0.5, 1")],
)
def test_a_comma_that_may_be_a_decimal_one_is_said(text, row, point):
    assert read_numbers(text) == row
    note = comma_note(text)
    assert note.startswith(f"{text!r} is read as ") and note.endswith(f": {point}")


@pytest.mark.parametrize(
    "text, point", [("0,05", "0.05"), ("0,5 1,5", "0.5 1.5"), ("1 0,7", "1 0.7"), ("1,00", "1.00")]
)
def test_a_comma_that_can_only_be_a_decimal_one_is_refused(text, point):
    with pytest.raises(ValueError, match="has decimal commas. Write a point: "):
        read_numbers(text)
    with pytest.raises(ValueError, match=point):
        read_numbers(text)


def test_what_is_no_number_is_quoted():
    with pytest.raises(ValueError, match="'x' is not a number"):
        read_numbers("1, x")
