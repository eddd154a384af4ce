"""Weather that is asked for once in a while: the key, the cache, and the host's interrupt."""

import asyncio
import os
import time
from typing import Any, NamedTuple

from ....zsamb_core.context.weather import Weather
from ....zsamb_core.context.weather_services import OPENWEATHERMAP, current
from ....zsamb_core.files.small_file import read_small
from ..memory import stop_if_asked
from .user_files import user_file

KEY = "OPENWEATHERMAP_API_KEY"
KEY_FILE = "openweathermap.key"
MOST = 1024  # bytes of a key's file
MOST_PLACES = 64
_cache: dict[tuple[str, str], "Answer"] = {}
_asked: dict[tuple[str, str], float] = {}


class Answer(NamedTuple):
    """``at``: seconds since the epoch; ``stamp``: what the host was told to know the answer by."""

    weather: Weather
    at: float
    stamp: float


def cached(service: str, place: str, minutes: float) -> Answer | None:
    """What was asked for no longer ago than that."""
    answer = _cache.get((service, place))
    return answer if answer is not None and time.time() - answer.at < 60 * minutes else None


def stamp(service: str, place: str, minutes: float) -> float:
    """The same number as long as the answer is kept, and for the run that asks for it."""
    if (answer := cached(service, place, minutes)) is not None:
        return answer.stamp
    now = time.time()
    remember(_asked, (service, place), now)
    return now


def remember(table: dict, key: tuple[str, str], value: Any) -> None:
    """As the newest of ``MOST_PLACES`` entries at most."""
    table.pop(key, None)
    while len(table) >= MOST_PLACES:
        table.pop(next(iter(table)))
    table[key] = value


def key_for(service: str) -> str | None:
    """Raises ValueError where the service needs a key and there is none."""
    if service != OPENWEATHERMAP:
        return None
    file = user_file(KEY_FILE)
    key = os.environ.get(KEY, "").strip()
    if not key and file.is_file():
        try:
            key = read_small(file, MOST).decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the key file {file} cannot be read ({type(error).__name__}), expected the key alone, as"
                " plain text (UTF-8)"
            ) from None
    if not key:
        raise ValueError(
            f"{service} needs a key, and there is none. Get one at openweathermap.org/api and put it into the"
            f" environment variable {KEY} or the file {file}, never into a widget; or use Open-Meteo."
        )
    return key


async def weather_of(service: str, place: str, minutes: float, timeout: float) -> Answer:
    """From the cache or the service. Raises what `zsamb_core.context.weather_services.current` does."""
    if (answer := cached(service, place, minutes)) is not None:
        return answer
    asked = asyncio.ensure_future(current(service, place, key_for(service), timeout))
    try:
        while not asked.done():
            stop_if_asked()
            await asyncio.wait({asked}, timeout=0.2)
    finally:
        asked.cancel()
    now = time.time()
    answer = Answer(asked.result(), now, _asked.pop((service, place), now))
    remember(_cache, (service, place), answer)
    return answer
