"""The weather of a place in words that a prompt can use."""

import re
from datetime import datetime, timedelta
from typing import Any, NamedTuple

# Upper ends in degrees Celsius, of the air in the shade.
WARMTH = (
    (-10.0, "bitterly cold"), (0.0, "freezing"), (10.0, "cold"), (17.0, "cool"), (22.0, "mild"),
    (28.0, "warm"), (35.0, "hot"),
)  # fmt: skip
# The Beaufort scale: upper ends in meters per second (World Meteorological Organization).
BEAUFORT = (
    (0.3, "calm air"), (1.6, "light air"), (3.4, "a light breeze"), (5.5, "a gentle breeze"),
    (8.0, "a moderate breeze"), (10.8, "a fresh breeze"), (13.9, "a strong breeze"), (17.2, "a near gale"),
    (20.8, "a gale"), (24.5, "a strong gale"), (28.5, "a storm"), (32.7, "a violent storm"),
)  # fmt: skip
# WMO code table 4677 in the selection that Open-Meteo documents.
WMO = {
    0: "clear sky", 1: "mainly clear sky", 2: "partly cloudy sky", 3: "overcast sky", 45: "fog",
    48: "freezing fog", 51: "light drizzle", 53: "drizzle", 55: "dense drizzle", 56: "light freezing drizzle",
    57: "dense freezing drizzle", 61: "light rain", 63: "rain", 65: "heavy rain", 66: "light freezing rain",
    67: "heavy freezing rain", 71: "light snow", 73: "snow", 75: "heavy snow", 77: "snow grains",
    80: "light rain showers", 81: "rain showers", 82: "violent rain showers", 85: "light snow showers",
    86: "heavy snow showers", 95: "thunderstorm", 96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}  # fmt: skip
METRIC, IMPERIAL = "metric", "imperial"
TEMPLATE = "{condition} weather, {warmth}, {wind}, {time}."
FIELDS = ("condition", "warmth", "wind", "time", "temperature", "speed", "place")
SUN = timedelta(minutes=40)  # dawn and dusk reach so far to either side of the sun's rise and set


class Weather(NamedTuple):
    """``condition`` in the service's words; ``temperature`` in degrees Celsius; ``wind`` in meters per
    second; ``local``: the place's time, ISO without zone; ``sunrise`` and ``sunset`` likewise, None where
    the sun does neither; ``day``: whether it is up; ``source``: the service.
    """

    place: str
    condition: str
    temperature: float
    wind: float
    local: str
    day: bool
    sunrise: str | None
    sunset: str | None
    source: str

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()


def warmth(celsius: float) -> str:
    return next((word for end, word in WARMTH if celsius < end), "scorching hot")


def wind_words(speed: float) -> str:
    """By the Beaufort scale, from meters per second."""
    return next((word for end, word in BEAUFORT if speed < end), "a hurricane")


def time_of_day(weather: Weather) -> str:
    """By the sun where it rises and sets, else by the clock."""
    now = datetime.fromisoformat(weather.local)
    for event, word in ((weather.sunrise, "at dawn"), (weather.sunset, "at dusk")):
        if event is not None and abs(now - datetime.fromisoformat(event)) <= SUN:
            return word
    if not weather.day:
        return "at night"
    hours = ((11, "in the morning"), (14, "at midday"), (17, "in the afternoon"))
    return next((word for end, word in hours if now.hour < end), "in the evening")


def in_words(weather: Weather, template: str, units: str) -> str:
    """The template with its fields filled in. Raises ValueError that names a field it does not know."""
    imperial = units == IMPERIAL
    degrees = weather.temperature * 9 / 5 + 32 if imperial else weather.temperature
    speed = weather.wind / 0.44704 if imperial else weather.wind
    values = {
        "condition": weather.condition,
        "warmth": warmth(weather.temperature),
        "wind": wind_words(weather.wind),
        "time": time_of_day(weather),
        "temperature": f"{degrees:.0f} degrees {'Fahrenheit' if imperial else 'Celsius'}",
        "speed": f"{speed:.0f} {'miles per hour' if imperial else 'metres per second'}",
        "place": weather.place,
    }
    text = check_template(template)
    text = re.sub(r"\{(\w+)\}", lambda m: values[m[1]], text)
    return text[:1].upper() + text[1:]


def check_template(template: str) -> str:
    """The template in one line. Raises ValueError for a field that there is not, or no text at all."""
    unknown = [name for name in re.findall(r"\{(\w*)\}", template) if name not in FIELDS]
    if unknown or not template.strip():
        problem = f"names {{{unknown[0]}}}" if unknown else "is empty"
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"template {problem}, expected a text with some of {known}")
    return " ".join(template.split())
