"""The weather of a place as text."""

import json
import logging
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.context.weather import FIELDS, IMPERIAL, METRIC, TEMPLATE, check_template, in_words
from ..zsamb_core.context.weather_services import OPEN_METEO, OPENWEATHERMAP, Unreachable, read_place
from ..zsamb_core.finite import require_numbers
from ._common import CONTEXT
from ._host.context.weather import KEY, KEY_FILE, stamp, weather_of


class DescribeWeather(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_DescribeWeather",
            display_name="Describe Weather",
            category=CONTEXT,
            description=(
                "The weather of a place now, in words. Asks the chosen service over the network when it runs,"
                " and no other."
            ),
            search_aliases=["OpenWeatherMap", "Open-Meteo", "weather", "Z-SAMB"],
            inputs=[
                io.Combo.Input(
                    "service",
                    options=[OPEN_METEO, OPENWEATHERMAP],
                    default=OPEN_METEO,
                    tooltip=(
                        "Open-Meteo needs no key (free for non-commercial use, data CC BY 4.0)."
                        f" OpenWeatherMap's key comes from the environment variable {KEY} or the file"
                        f" {KEY_FILE} in the folder user/__zsamb."
                    ),
                ),
                io.String.Input(
                    "place",
                    default="Rome, IT",
                    tooltip="A town, and its country's code if need be, or degrees north, east: 41.9, 12.5.",
                ),
                io.Combo.Input(
                    "units",
                    options=[METRIC, IMPERIAL],
                    default=METRIC,
                    tooltip=(
                        "Of {temperature} and {speed}: degrees Celsius and meters per second, or"
                        " Fahrenheit and miles per hour."
                    ),
                ),
                io.String.Input(
                    "template",
                    default=TEMPLATE,
                    multiline=True,
                    dynamic_prompts=False,
                    tooltip=(
                        f"The sentence, of {', '.join(f'{{{name}}}' for name in FIELDS)}. The published code"
                        " says {condition} weather."
                    ),
                ),
                io.Float.Input(
                    "cache_minutes",
                    default=10.0,
                    min=0.0,
                    max=1440.0,
                    step=1.0,
                    tooltip="How long an answer holds, in minutes. 0 asks every time.",
                ),
                io.Float.Input(
                    "timeout",
                    default=10.0,
                    min=0.1,
                    max=120.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Seconds to wait for each of three tries.",
                ),
                io.String.Input(
                    "offline",
                    default="",
                    tooltip=(
                        "What to say when the service cannot be reached or gives no weather. Empty: the run"
                        " stops with an error. A wrong key or place is an error in any case."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(display_name="text"),
                io.String.Output(
                    display_name="json",
                    tooltip="The numbers, in degrees Celsius and meters per second, and their source.",
                ),
            ],
        )

    @classmethod
    async def execute(
        cls,
        service: str,
        place: str,
        units: str,
        template: str,
        cache_minutes: float,
        timeout: float,
        offline: str,
    ) -> io.NodeOutput:
        node = "Describe Weather"
        require_numbers(node, cache_minutes=cache_minutes, timeout=timeout)
        try:
            check_template(template)
            read_place(place)
            found = await weather_of(service, place, cache_minutes, timeout)
        except Unreachable as error:
            if not offline.strip():
                advice = "Give an offline text to go on without it."
                raise ValueError(f"{node}: {error} {advice}") from None
            logging.warning("%s: %s The offline text is used.", node, error)
            report: dict[str, Any] = {"source": "offline", "warnings": [str(error)]}
            return io.NodeOutput(" ".join(offline.split()), json.dumps(report, ensure_ascii=False))
        except ValueError as error:
            raise ValueError(f"{node}: {error}") from None
        report = {**found.weather.as_dict(), "asked": round(found.at), "warnings": []}
        return io.NodeOutput(in_words(found.weather, template, units), json.dumps(report, ensure_ascii=False))

    @classmethod
    def fingerprint_inputs(cls, service: str, place: str, cache_minutes: float, **_: Any) -> Any:
        return stamp(service, place, cache_minutes)


NODES = [DescribeWeather]
