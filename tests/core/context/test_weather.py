"""Weather in words."""

import pytest

from zsamb_core.context.weather import (
    IMPERIAL,
    METRIC,
    TEMPLATE,
    WMO,
    Weather,
    in_words,
    time_of_day,
    warmth,
    wind_words,
)

MILD = Weather(
    "Rome", "scattered clouds", 21.4, 4.1, "2024-06-10T14:30:00", True, "2024-06-10T05:35:00",
    "2024-06-10T20:45:00", "test",
)  # fmt: skip


def test_the_sentence():
    assert (
        in_words(MILD, TEMPLATE, METRIC)
        == "Scattered clouds weather, mild, a gentle breeze, in the afternoon."
    )
    assert in_words(MILD, "{condition} weather.", METRIC) == "Scattered clouds weather."  # as published
    template = "It is {temperature} in {place},\n wind at {speed}"
    assert in_words(MILD, template, METRIC) == "It is 21 degrees Celsius in Rome, wind at 4 metres per second"
    assert (
        in_words(MILD, template, IMPERIAL) == "It is 71 degrees Fahrenheit in Rome, wind at 9 miles per hour"
    )


def test_a_text_of_the_service_is_not_read_as_a_template():
    assert in_words(MILD._replace(condition="{place}"), "{condition}", METRIC) == "{place}"


@pytest.mark.parametrize("template", ["", "  ", "{sky}", "{condition} and {}"])
def test_templates_that_cannot_be_filled_are_refused(template):
    with pytest.raises(ValueError, match=r"template .*expected a text with some of \{condition\}"):
        in_words(MILD, template, METRIC)


@pytest.mark.parametrize(
    "celsius, word",
    [(-30, "bitterly cold"), (-10, "freezing"), (-0.1, "freezing"), (0, "cold"), (16.9, "cool"),
     (17, "mild"), (22, "warm"), (28, "hot"), (35, "scorching hot")],
)  # fmt: skip
def test_warmth(celsius, word):
    assert warmth(celsius) == word


@pytest.mark.parametrize(
    "speed, word",
    [(0, "calm air"), (1.5, "light air"), (3.4, "a gentle breeze"), (12, "a strong breeze"), (20, "a gale"),
     (32.6, "a violent storm"), (40, "a hurricane")],
)  # fmt: skip
def test_wind(speed, word):
    assert wind_words(speed) == word


@pytest.mark.parametrize(
    "local, day, words",
    [("02:00", False, "at night"), ("05:00", False, "at dawn"), ("06:10", True, "at dawn"),
     ("09:00", True, "in the morning"), ("12:00", True, "at midday"), ("14:00", True, "in the afternoon"),
     ("18:00", True, "in the evening"), ("20:20", True, "at dusk"), ("21:20", False, "at dusk"),
     ("23:00", False, "at night")],
)  # fmt: skip
def test_time_of_day(local, day, words):
    assert time_of_day(MILD._replace(local=f"2024-06-10T{local}:00", day=day)) == words


def test_where_the_sun_does_not_rise():
    polar = MILD._replace(sunrise=None, sunset=None)
    assert time_of_day(polar._replace(day=False)) == "at night"
    assert time_of_day(polar._replace(day=True, local="2024-06-10T23:00")) == "in the evening"


def test_all_documented_codes_have_words():
    documented = [0, 1, 2, 3, 45, 48, 51, 53, 55, 56, 57, 61, 63, 65, 66, 67, 71, 73, 75, 77, 80, 81, 82, 85]
    assert sorted(WMO) == [*documented, 86, 95, 96, 99]
