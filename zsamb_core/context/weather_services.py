"""Current weather from OpenWeatherMap (with a key) or Open-Meteo (without), over HTTP.

Documented at openweathermap.org/current and open-meteo.com/en/docs. An address other than the public one, a
server of one's own or a proxy, may stand in the environment.
"""

import asyncio
import html
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from ..messages import quoted, short
from ..texts import read_json
from .weather import WMO, Weather

OPENWEATHERMAP, OPEN_METEO = "OpenWeatherMap", "Open-Meteo"
GEOCODING = "Open-Meteo's geocoding"
# Environment variable and public address of each.
ADDRESSES = {
    OPENWEATHERMAP: ("OPENWEATHERMAP_URL", "https://api.openweathermap.org"),
    OPEN_METEO: ("OPEN_METEO_URL", "https://api.open-meteo.com"),
    GEOCODING: ("OPEN_METEO_GEOCODING_URL", "https://geocoding-api.open-meteo.com"),
}
PLACE = ("q", "name", "lat", "lon", "latitude", "longitude")  # of a query, what says where
CODES = {"UK": "GB"}  # what people write for another
TRIES = 3
PATIENCE = 30.0  # seconds that a service's Retry-After is honored for at most
BODY = 1 << 20  # bytes of an answer, unpacked; the longest that is asked for has some 50,000
LONGEST = 200  # characters of a text in it


class Unreachable(ValueError):
    """The service does not answer, or not with weather: not the user's mistake, and maybe over soon."""


class Coordinates(NamedTuple):
    """Degrees north and east."""

    latitude: float
    longitude: float


def read_place(text: str) -> str | Coordinates:
    """A name, "Rome" or "Rome, IT", or coordinates, "41.9, 12.5". Raises ValueError for neither."""
    text = " ".join(text.split())
    if not text:
        raise ValueError(
            "place is empty, expected a town such as Rome, IT, or coordinates such as 41.9, 12.5"
        )
    number = r"[-+]?\d+(?:\.\d+)?"
    if not (degrees := re.fullmatch(rf"({number})\s*[,;\s]\s*({number})", text)):
        return text
    latitude, longitude = float(degrees[1]), float(degrees[2])
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise ValueError(
            f"place is {text!r}, expected degrees north in -90..90, then degrees east in -180..180"
        )
    return Coordinates(latitude, longitude)


async def current(service: str, place: str, key: str | None, timeout: float, retry: float = 1.0) -> Weather:
    """The weather at a place now. ``timeout``: seconds for each of ``TRIES`` tries; ``retry``: seconds
    before the second, doubled before the third. Raises ValueError for a place or key that the service does
    not know, and Unreachable where it gives no weather. Neither the weather nor a message holds the key,
    though the service may repeat it.
    """
    where = read_place(place)
    if isinstance(where, str):
        where = ",".join(part.strip() for part in where.split(","))
    if service != OPENWEATHERMAP:
        return await _open_meteo(where, timeout, retry)
    try:
        weather = await _openweathermap(where, key or "", timeout, retry)
    except ValueError as error:
        raise type(error)(without_key(str(error), key)) from None
    place, condition = without_key(weather.place, key), without_key(weather.condition, key)
    return weather._replace(place=place, condition=condition)


def without_key(text: str, key: str | None) -> str:
    """``text`` with (key) in place of the key, in whichever way it is written: plain, in either case, quoted
    for an address any number of times over, for HTML, JSON or Python.
    """
    pattern = "".join(map(_written, " ".join((key or "").split())))
    return re.sub(pattern, "(key)", text, flags=re.IGNORECASE) if pattern else text


def _written(character: str) -> str:
    """A pattern of all ways to write a character of the key."""
    code, plain = ord(character), re.escape(character)
    quoted = "".join(f"%(?:25){{0,8}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    ways = [quoted, re.escape(html.escape(character)), f"&#0{{0,4}}{code};", f"&#x0{{0,4}}{code:x};"]
    ways += [rf"\\{{1,4}}u{code:04x}", rf"\\{{0,4}}{plain}"]
    if character == " ":
        return rf"(?:{'|'.join(ways)}|\s|\+|%(?:25){{0,8}}2b){{1,8}}"
    return f"(?:{'|'.join(ways)})"


async def _openweathermap(where: str | Coordinates, key: str, timeout: float, retry: float) -> Weather:
    asked = (
        {"q": where} if isinstance(where, str) else {"lat": f"{where.latitude}", "lon": f"{where.longitude}"}
    )
    data = await _get(
        OPENWEATHERMAP, "/data/2.5/weather", {**asked, "units": "metric", "appid": key}, timeout, retry
    )
    with _as_documented(OPENWEATHERMAP):
        offset = timedelta(seconds=_number(data["timezone"]))

        def local(seconds: Any) -> str:
            moment = datetime.fromtimestamp(_number(seconds), timezone.utc) + offset
            return moment.replace(tzinfo=None).isoformat()

        sun = data["sys"]
        rise, set_ = (local(sun[name]) if sun.get(name) else None for name in ("sunrise", "sunset"))
        first = data["weather"][0]
        return Weather(
            place=_text(data.get("name") or _name(where)),
            condition=_text(first["description"]),
            temperature=_number(data["main"]["temp"]),
            wind=_number(data["wind"]["speed"]),
            local=local(data["dt"]),
            day=not _text(first["icon"]).endswith("n"),
            sunrise=rise,
            sunset=set_,
            source=OPENWEATHERMAP,
        )


def _name(where: str | Coordinates) -> str:
    return short(where) if isinstance(where, str) else f"{where.latitude}, {where.longitude}"


async def _open_meteo(where: str | Coordinates, timeout: float, retry: float) -> Weather:
    name = _name(where)
    if isinstance(where, str):
        name, where = await _geocoded(where, timeout, retry)
    data = await _get(
        OPEN_METEO,
        "/v1/forecast",
        {
            "latitude": str(where.latitude),
            "longitude": str(where.longitude),
            "current": "temperature_2m,weather_code,wind_speed_10m,is_day",
            "daily": "sunrise,sunset",
            "forecast_days": "1",
            "timezone": "auto",
            "wind_speed_unit": "ms",
        },
        timeout,
        retry,
    )
    with _as_documented(OPEN_METEO):
        now, daily = data["current"], data.get("daily") or {}
        code = int(_number(now["weather_code"]))
        events = [(daily.get(name) or [None])[0] for name in ("sunrise", "sunset")]
        # The same time for both is a day on which the sun does neither.
        rise, set_ = (_local_time(x) if x and len(set(events)) > 1 else None for x in events)
        return Weather(
            place=name,
            condition=WMO[code],
            temperature=_number(now["temperature_2m"]),
            wind=_number(now["wind_speed_10m"]),
            local=_local_time(now["time"]),
            day=bool(_number(now["is_day"])),
            sunrise=rise,
            sunset=set_,
            source=OPEN_METEO,
        )


async def _geocoded(place: str, timeout: float, retry: float) -> tuple[str, Coordinates]:
    """Name and coordinates. Behind commas stand a country or its code, and before it maybe a region."""
    name, *regions = (part.strip() for part in place.split(",") if part.strip())
    asked = {"name": name, "count": "20", "language": "en", "format": "json"}
    country = regions.pop() if regions else ""
    code = CODES.get(country.upper(), country.upper()) if re.fullmatch("[A-Za-z]{2}", country) else ""
    if code:
        asked["countryCode"] = code
    data = await _get(GEOCODING, "/v1/search", asked, timeout, retry)
    with _as_documented(GEOCODING):
        places = data.get("results") or []
        if code:
            places = [r for r in places if str(r.get("country_code", "")).upper() == code]
        elif country:
            places = [r for r in places if _is_in(r, country)]
        for region in regions:  # the likeliest where nothing says the region by this name
            places = [r for r in places if _is_in(r, region)] or places
        best = places[0] if places else None
        if best is not None:
            place_name = ", ".join(_text(best[f]) for f in ("name", "country") if best.get(f))
            return place_name, Coordinates(_number(best["latitude"]), _number(best["longitude"]))
    raise ValueError(_unknown(OPEN_METEO, place))


def _is_in(result: dict[str, Any], region: str) -> bool:
    fields = ("country", "admin1", "admin2")
    return any(region.casefold() in str(result.get(field, "")).casefold() for field in fields)


def _unknown(service: str, place: str) -> str:
    return (
        f"{service} knows no place {quoted(place)}. Write a town and its country's code, such as Rome, IT,"
        " or coordinates, such as 41.9, 12.5."
    )


async def _get(
    service: str, path: str, asked: dict[str, str], timeout: float, retry: float
) -> dict[str, Any]:
    """The JSON object at a service's path. Tried again after failures that may pass."""
    import aiohttp

    variable, public = ADDRESSES[service]
    address = os.environ.get(variable, "").rstrip("/") or public
    plain = {"Accept-Encoding": "identity"}  # what is packed may be a thousand times as long
    failure, wait = "", 0.0
    for attempt in range(TRIES):
        await asyncio.sleep(wait)
        wait = retry * 2**attempt
        try:
            # No redirects: the query may hold a key, which is for this service alone.
            limit = aiohttp.ClientTimeout(total=timeout)
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=True, auto_decompress=False) as session,
                session.get(address + path, params=asked, headers=plain, allow_redirects=False) as response,
            ):
                status, body = response.status, await _body(response)
                after = response.headers.get("Retry-After", "")
        except (asyncio.TimeoutError, TimeoutError):
            failure = f"it gave no answer within {timeout:g} s"
            continue
        except _TooLong:
            failure = f"its answer has more than {BODY >> 20} MB"
            continue
        except (aiohttp.ClientError, OSError, ValueError, zlib.error) as error:
            # The error's own words may hold the address, and the address the key.
            failure = f"it cannot be reached ({type(error).__name__}). Is there a network?"
            continue
        if status == 200:
            return _object(service, body)
        reason = _reason(body, asked.get("appid"))
        if status in (401, 403) and service == OPENWEATHERMAP:
            raise ValueError(
                f"{service} refuses the key ({status}{reason}). New keys work after some hours; look at the"
                " key in the environment variable or file that it comes from."
            )
        if status in (400, 404):
            place = ", ".join(asked[name] for name in PLACE if name in asked)
            raise ValueError(f"{_unknown(service, place)} It says {status}{reason}.")
        if status == 429:
            failure = f"its limit of calls is reached (429{reason}). Wait, or raise cache_minutes"
            if re.fullmatch("[0-9]{1,9}", after):  # it may be a date, too
                wait = min(float(after), PATIENCE)
        else:
            failure = f"it answers with an error ({status}{reason})"
    raise Unreachable(f"{service} gives no weather after {TRIES} tries: {failure}.")


class _TooLong(Exception):
    pass


async def _body(response: Any) -> bytes:
    """What is unpacked of an answer. Raises _TooLong before more than BODY of it is held."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > BODY:
            raise _TooLong
    body = b"".join(parts)
    if response.headers.get("Content-Encoding", "identity").lower() in ("gzip", "deflate"):
        body = zlib.decompressobj(wbits=47).decompress(body, BODY + 1)  # 47: either, told by its beginning
        if len(body) > BODY:
            raise _TooLong
    return body


def _object(service: str, body: bytes) -> dict[str, Any]:
    with _as_documented(service):
        value = read_json(body)
        if not isinstance(value, dict):
            raise TypeError(f"a {type(value).__name__} instead of an object")
        return value


def _reason(body: bytes, key: str | None) -> str:
    """The service's own words, on one short line, without the key."""
    try:
        answer = read_json(body)
        words = str(answer.get("message") or answer.get("reason") or "")
    except (ValueError, AttributeError):
        return ""
    words = without_key(" ".join(words.split()), key)[:LONGEST]
    return f": {words}" if words else ""


@contextmanager
def _as_documented(service: str) -> Iterator[None]:
    """What cannot be read within becomes Unreachable: the service answered something else."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, OSError) as error:
        raise Unreachable(
            f"{service} answers something else than the weather it documents ({type(error).__name__}:"
            f" {error})."
        ) from None


# These name no value: it may be long, and hold the key.


def _local_time(value: Any) -> str:
    text = _text(value)
    if datetime.fromisoformat(text).tzinfo is not None:
        raise TypeError("another time instead of a local one")
    return text


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"a {type(value).__name__} instead of a number")
    return float(value)


def _text(value: Any) -> str:
    """In one line."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or len(text) > LONGEST:
        raise TypeError(f"a {type(value).__name__} instead of a text of {LONGEST} characters at most")
    return text
