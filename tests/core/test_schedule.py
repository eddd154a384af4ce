"""Windows of the sampling schedule and the curves in them."""

import math

import pytest

from zsamb_core.numbers import parse_curve
from zsamb_core.schedule import Window, percent_at


def geometric(percent):
    return 14.6 * (0.03 / 14.6) ** percent


def host_like(percent):
    """As hosts have it: no bound before the first step, and 0 after the last."""
    if percent <= 0:
        return 1e9
    return 0.0 if percent >= 1 else geometric(percent)


FALLING = {
    "geometric": geometric,
    "bounded by 1e9 and 0": host_like,
    "a flow's": lambda percent: 1 - percent,
    "karras": lambda percent: (14.6 ** (1 / 7) + percent * (0.03 ** (1 / 7) - 14.6 ** (1 / 7))) ** 7,
    "shifted": lambda percent: 3 * (1 - percent) / (1 + 2 * (1 - percent)),
}
PLACES = [0, 1e-4, 0.1, 0.25, 0.5, 2 / 3, 0.9, 0.999, 1]


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("percent", PLACES)
def test_the_place_of_a_level_inverts_the_schedule(name, percent):
    falling = FALLING[name]
    assert percent_at(falling(percent), falling) == pytest.approx(percent, abs=1e-5)


@pytest.mark.parametrize("name", FALLING)
def test_levels_beyond_the_schedule_are_at_its_ends(name):
    assert percent_at(2e9, FALLING[name]) == pytest.approx(0, abs=1e-5)
    assert percent_at(-1.0, FALLING[name]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("curve", [(1.0,), (0.7, 0.7), (0.5, 1.0), (1.0, 0.0, 2.0)])
@pytest.mark.parametrize("falling", FALLING.values(), ids=FALLING)
def test_both_borders_are_inside(falling, curve):
    window = Window(0.2, 0.6, curve)
    first, last = falling(0.2), falling(0.6)
    assert window.weight(first, falling) == pytest.approx(curve[0], abs=1e-4)
    assert window.weight(last, falling) == pytest.approx(curve[-1], abs=1e-4)
    assert window.weight(math.nextafter(first, math.inf), falling) == 0
    assert window.weight(math.nextafter(last, -math.inf), falling) == 0
    assert window.weight(falling(0.1), falling) == window.weight(falling(0.9), falling) == 0


@pytest.mark.parametrize("falling", FALLING.values(), ids=FALLING)
def test_the_whole_schedule_is_inside_by_default(falling):
    assert all(Window().weight(falling(percent), falling) == 1 for percent in PLACES)


def test_the_first_step_and_the_last_level_are_in_a_hosts_schedule():
    """Its first step has the level of 14.6, and not the bound; its last is 0.03, and then 0."""
    for sigma in (14.6, 0.03, 0.0):
        assert Window().weight(sigma, host_like) == 1
    assert Window(0, 0.5).weight(14.6, host_like) == 1 and Window(0, 0.5).weight(0.0, host_like) == 0
    assert Window(0.5, 1).weight(14.6, host_like) == 0 and Window(0.5, 1).weight(0.0, host_like) == 1
    assert Window(0, 1, (1.0, 0.5)).weight(14.6, host_like) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ((0.3,), [0.3] * 5),
        ((0.0, 2.0), [0, 0.5, 1, 1.5, 2]),
        ((1.0, 0.0), [1, 0.75, 0.5, 0.25, 0]),
        ((0.0, 1.0, 0.5), [0, 0.5, 1, 0.75, 0.5]),
        ((1.0, 1.0, 0.0), [1, 1, 1, 0.5, 0]),
        ((0.0, 1.0, 0.0, 1.0, 3.0), [0, 1, 0, 1, 3]),
    ],
)
@pytest.mark.parametrize("falling", FALLING.values(), ids=FALLING)
def test_curves_are_straight_between_even_places(falling, curve, expected):
    window = Window(0.2, 0.6, curve)
    weights = [window.weight(falling(percent), falling) for percent in (0.2, 0.3, 0.4, 0.5, 0.6)]
    assert weights == pytest.approx(expected, abs=1e-3)
    assert [window.along(part) for part in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected)
    assert window.along(-1) == expected[0] and window.along(2) == expected[-1]


def test_a_window_of_no_length_and_one_turned_round():
    at = geometric(0.5)
    assert Window(0.5, 0.5, (0.3, 1.0)).weight(at, geometric) == 0.3
    assert Window(0.5, 0.5).weight(geometric(0.501), geometric) == 0
    assert all(Window(0.6, 0.4).weight(geometric(p), geometric) == 0 for p in PLACES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1.0,)),
        (" ,\n ", (1.0,)),
        ("0.5", (0.5,)),
        ("0, 1, 1, 0.5", (0, 1, 1, 0.5)),
        ("0 1\t10", (0, 1, 10)),
        ("0,,1,", (0, 1)),
        ("1e-1\n.5 +2", (0.1, 0.5, 2)),
        ("-0", (0,)),
    ],
)
def test_curves_that_are_read(text, expected):
    assert parse_curve(text) == expected


@pytest.mark.parametrize(
    "word", ["-0.1", "10.1", "nan", "inf", "-inf", "x", "0.5.1", "1;2", "50%", "1e9", "0x1"]
)
def test_curves_that_are_refused(word):
    with pytest.raises(ValueError, match="weight_curve: .* is not a number from 0 to 10") as caught:
        parse_curve(f"0, 1 {word}, 1")
    assert repr(word) in str(caught.value)


def test_a_curve_with_decimal_commas_is_refused():
    with pytest.raises(ValueError, match=r"weight_curve: '0,5 1,5' has decimal commas.*0.5 1.5"):
        parse_curve("0,5 1,5")
