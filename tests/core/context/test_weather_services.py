"""Both weather services over real HTTP, as they answer and as they fail."""

import asyncio
import copy
import re
import time

import pytest

from tests.weather_server import METEO, OWM, PLACES, weather_server
from zsamb_core.context import weather_services
from zsamb_core.context.weather import METRIC, TEMPLATE, in_words
from zsamb_core.context.weather_services import (
    OPEN_METEO,
    OPENWEATHERMAP,
    Coordinates,
    Unreachable,
    current,
    read_place,
)

pytestmark = pytest.mark.slow

KEY = "k3y-that-nobody-may-see"
PATH = {OPENWEATHERMAP: "/data/2.5/weather", OPEN_METEO: "/v1/forecast"}


@pytest.fixture
def server(monkeypatch):
    with weather_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def ask(service=OPENWEATHERMAP, place="Rome, IT", key=KEY, timeout=2.0, retry=0.01):
    return asyncio.run(current(service, place, key, timeout, retry))


def test_openweathermap(server):
    weather = ask()
    assert weather.as_dict() == {
        "place": "Rome", "condition": "scattered clouds", "temperature": 21.4, "wind": 4.1,
        "local": "2024-06-10T14:30:00", "day": True, "sunrise": "2024-06-10T05:35:00",
        "sunset": "2024-06-10T20:45:00", "source": "OpenWeatherMap",
    }  # fmt: skip
    assert server.asked == [("/data/2.5/weather", {"q": "Rome,IT", "units": "metric", "appid": KEY})]
    ask(place="41.9, -12.5")
    assert server.asked[1][1] == {"lat": "41.9", "lon": "-12.5", "units": "metric", "appid": KEY}


def test_open_meteo(server):
    weather = ask(OPEN_METEO, key=None)
    assert weather.place == "Rome, Italy" and weather.condition == "snow" and weather.temperature == -3.2
    assert in_words(weather, TEMPLATE, METRIC) == "Snow weather, freezing, a strong breeze, at dawn."
    (_, asked), (_, forecast) = server.asked
    assert asked["name"] == "Rome" and asked["countryCode"] == "IT"
    assert forecast["latitude"] == "41.89" and forecast["wind_speed_unit"] == "ms"
    assert all("appid" not in query for _, query in server.asked)


@pytest.mark.parametrize("place", ["Rome, Italy", "Rome, lazio", "Rome, Lazio, IT", "Rome, RM, Italy"])
def test_open_meteo_by_region(server, place):
    assert ask(OPEN_METEO, place).place == "Rome, Italy"
    assert server.asked[0][1].get("countryCode") == ("IT" if place.endswith("IT") else None)
    assert server.asked[1][1]["latitude"] == "41.89"


def test_what_people_write_for_a_country(server):
    london = {"name": "London", "latitude": 51.5, "longitude": -0.1, "country": "United Kingdom",
              "country_code": "GB"}  # fmt: skip
    server.answers["/v1/search"] = [(200, {"results": [london]})]
    assert ask(OPEN_METEO, "London, uk").place == "London, United Kingdom"
    assert server.asked[0][1]["countryCode"] == "GB"


def test_a_refusal_without_a_key_is_not_the_key_s(server):
    """Of a proxy, say: it may pass, and an offline text may stand in."""
    server.answers["/v1/forecast"] = [(403, {"reason": "not here"})]
    with pytest.raises(Unreachable, match=r"answers with an error \(403: not here\)"):
        ask(OPEN_METEO, "41.9, 12.5", key=None)


@pytest.mark.parametrize("key", ["a b&c", KEY])
def test_the_key_is_taken_out_however_it_is_written(server, key):
    from urllib.parse import quote

    for text in (key, quote(key), "x" * 190 + key, quote(key, safe="")):
        server.answers[PATH[OPENWEATHERMAP]] = [(401, {"message": f"wrong: {text}"})]
        with pytest.raises(ValueError, match="refuses the key") as error:
            ask(key=key)
        assert not any(part in str(error.value) for part in (key, quote(key), key[:4]))


def test_open_meteo_by_coordinates_asks_for_no_name(server):
    assert ask(OPEN_METEO, "-41.9 12.5").place == "-41.9, 12.5"
    assert [path for path, _ in server.asked] == ["/v1/forecast"]


def test_a_day_without_sun(server):
    polar = copy.deepcopy(METEO)
    polar["daily"] |= {"sunrise": ["2024-12-10T00:00"], "sunset": ["2024-12-10T00:00"]}
    polar["current"]["is_day"] = 0
    server.answers["/v1/forecast"] = [(200, polar)]
    weather = ask(OPEN_METEO, "78.2, 15.6")
    assert weather.sunrise is None and in_words(weather, "{time}", METRIC) == "At night"
    dark = copy.deepcopy(OWM)
    dark["sys"] = {"country": "NO"}
    server.answers["/data/2.5/weather"] = [(200, dark)]
    assert ask().sunset is None


SERVICES = pytest.mark.parametrize("service", [OPENWEATHERMAP, OPEN_METEO])


def test_a_wrong_key_is_not_tried_again(server):
    server.answers[PATH[OPENWEATHERMAP]] = [(401, {"cod": 401, "message": f"Invalid API key {KEY}."})]
    with pytest.raises(ValueError, match=r"refuses the key \(401: Invalid API key \(key\)") as error:
        ask()
    assert not isinstance(error.value, Unreachable) and len(server.asked) == 1 and KEY not in str(error.value)


def test_an_unknown_place(server):
    server.answers[PATH[OPENWEATHERMAP]] = [(404, {"cod": "404", "message": "city not found"})]
    with pytest.raises(ValueError, match="knows no place 'Atlantis'.* It says 404: city not found") as error:
        ask(place="Atlantis")
    assert not isinstance(error.value, Unreachable)
    for nothing in ({"generationtime_ms": 0.5}, {"results": []}):
        server.answers["/v1/search"] = [(200, nothing)]
        with pytest.raises(ValueError, match="Open-Meteo knows no place 'Atlantis'"):
            ask(OPEN_METEO, "Atlantis")
    server.answers["/v1/search"] = [(200, PLACES)]
    with pytest.raises(ValueError, match="knows no place 'Rome,Spain'"):
        ask(OPEN_METEO, "Rome, Spain")


@SERVICES
def test_a_limit_that_passes(server, service):
    server.answers[PATH[service]] = [
        (429, {"cod": 429, "message": "limit"}, {"Retry-After": "1"}), *server.answers[PATH[service]]
    ]  # fmt: skip
    begun = time.monotonic()
    assert ask(service, "41.9, 12.5").temperature in (21.4, -3.2)
    assert time.monotonic() - begun >= 1 and len(server.asked) == 2


@SERVICES
@pytest.mark.parametrize(
    "answer, message",
    [
        ((429, {"message": "too much"}), "limit of calls is reached .429: too much"),
        ((500, b"oops"), r"answers with an error \(500\)"),
        ((503, {"reason": "down"}), r"answers with an error \(503: down\)"),
        ((302, b"", {"Location": "http://elsewhere.invalid/"}), r"answers with an error \(302\)"),
        ((200, OWM, {}, 1.5), "gave no answer within 0.3 s"),
    ],
)  # fmt: skip
def test_failures_that_may_pass(server, service, answer, message):
    server.answers[PATH[service]] = [answer]
    with pytest.raises(Unreachable, match=f"{service} gives no weather after 3 tries: .*{message}") as error:
        ask(service, "41.9, 12.5", timeout=0.3)
    assert len(server.asked) == 3 and KEY not in str(error.value)


@SERVICES
@pytest.mark.parametrize("body", [b"", b'{"weather": [', b"[]", b"null", b"\xff\xfe", b"{}"])
def test_answers_that_are_no_weather(server, service, body):
    server.answers[PATH[service]] = [(200, body)]
    with pytest.raises(Unreachable, match="answers something else than the weather it documents"):
        ask(service, "41.9, 12.5")


def changed(answer, path, value):
    answer = copy.deepcopy(answer)
    *way, last = path
    part = answer
    for key in way:
        part = part[key]
    part[last] = value
    return answer


@pytest.mark.parametrize(
    "path, value",
    [
        (("weather",), []), (("weather",), "rain"), (("weather", 0, "description"), 7),
        (("weather", 0, "icon"), None), (("main", "temp"), "21"), (("main", "temp"), True),
        (("main",), None), (("wind",), []), (("dt",), "now"), (("dt",), 1e30), (("timezone",), None),
        (("timezone",), 1e300), (("sys",), None), (("sys", "sunrise"), "6"),
    ],
)  # fmt: skip
def test_openweathermap_of_wrong_types(server, path, value):
    server.answers[PATH[OPENWEATHERMAP]] = [(200, changed(OWM, path, value))]
    with pytest.raises(Unreachable, match="something else"):
        ask()


@pytest.mark.parametrize(
    "path, value",
    [
        (("current",), None), (("current",), []), (("current", "time"), 5), (("current", "time"), "noon"),
        (("current", "time"), "2024-06-10T05:30+02:00"), (("current", "weather_code"), 4),
        (("current", "weather_code"), "73"), (("current", "temperature_2m"), None),
        (("current", "wind_speed_10m"), "strong"), (("current", "is_day"), None),
        (("daily", "sunrise"), ["soon"]), (("daily", "sunrise"), 5), (("daily",), "none"),
    ],
)  # fmt: skip
def test_open_meteo_of_wrong_types(server, path, value):
    server.answers[PATH[OPEN_METEO]] = [(200, changed(METEO, path, value))]
    with pytest.raises(Unreachable, match="something else"):
        ask(OPEN_METEO, "41.9, 12.5")


@pytest.mark.parametrize("value", [5, [5], [{}], [{"name": "Rome", "latitude": "north", "longitude": 1}]])
def test_places_of_wrong_types(server, value):
    server.answers["/v1/search"] = [(200, {"results": value})]
    with pytest.raises(Unreachable, match="something else"):
        ask(OPEN_METEO, "Rome")


@SERVICES
def test_an_answer_without_end_is_not_taken_in(server, service):
    """Plain, or packed to a hundredth of a percent; nor what is held of it."""
    import tracemalloc
    import zlib

    packed = zlib.compressobj(wbits=31)
    bomb = b"".join(packed.compress(bytes(10**6)) for _ in range(200)) + packed.flush()
    for answer in (
        (200, b" " * 5_000_000),
        (200, bomb, {"Content-Encoding": "gzip"}),
        (500, bomb, {"Content-Encoding": "gzip"}),
        (429, b"[" * 5_000_000),
    ):
        server.answers[PATH[service]] = [answer]
        tracemalloc.start()
        with pytest.raises(Unreachable, match="after 3 tries: its answer has more than 1 MB"):
            ask(service, "41.9, 12.5")
        assert tracemalloc.get_traced_memory()[1] < 30e6
        tracemalloc.stop()


def test_a_packed_answer_is_read_though_it_is_not_asked_for(server):
    import gzip
    import json
    import zlib

    plain = json.dumps(OWM).encode()
    for name, body in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
        server.answers[PATH[OPENWEATHERMAP]] = [(200, body, {"Content-Encoding": name})]
        assert ask().place == "Rome"
    for body in (b"not packed", gzip.compress(plain)[:40]):
        server.answers[PATH[OPENWEATHERMAP]] = [(200, body, {"Content-Encoding": "gzip"})]
        with pytest.raises(Unreachable):
            ask()


@SERVICES
@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"message":' * 100_000, b'{"message": ' + b"9" * 5000 + b"}"]
)
def test_json_of_any_depth_is_a_message(server, service, status, body):
    server.answers[PATH[service]] = [(status, body)]
    with pytest.raises(ValueError, match=service) as error:
        ask(service, "41.9, 12.5")
    assert len(str(error.value)) < 600


WAITS = {
    "3600": weather_services.PATIENCE, "9" * 400: 0.02, "30": 30, "0": 0, "\u00b2": 0.02, "1e3": 0.02,
    "-5": 0.02, "": 0.02, "nan": 0.02, "Wed, 21 Oct 2099 07:28:00 GMT": 0.02,
    "999999999": weather_services.PATIENCE,
}  # fmt: skip


@pytest.mark.parametrize("after", WAITS)
def test_how_long_a_service_may_ask_to_wait(server, after, monkeypatch):
    """Half a minute at most, whatever it writes; else as long as without a word from it."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    server.answers[PATH[OPENWEATHERMAP]] = [(429, {"message": "limit"}, {"Retry-After": after})]
    with pytest.raises(Unreachable, match="limit of calls"):
        ask(retry=0.02)
    own = [0.02, 0.04]
    assert waits == [0, *(own if WAITS[after] == 0.02 else [WAITS[after]] * 2)]


KEYS = ("k/3+y&z=?#", "a b\"c'd\\e", "0123456789abcdef0123456789abcdef", "schl\u00fcssel<>")


@pytest.mark.parametrize("key", KEYS)
def test_a_service_that_repeats_the_key_tells_nobody(server, key):
    """In the weather as in messages, however often it was quoted, in either case."""
    import html
    import json
    from urllib.parse import quote, quote_plus

    once = [key, quote(key), quote(key, safe=""), quote_plus(key)]
    forms = [
        *once,
        *(quote(f, safe="") for f in once),
        *(quote_plus(quote(f, safe=""), safe="") for f in once),
    ]
    forms += [html.escape(key), repr(key), json.dumps(key), json.dumps(json.dumps(key)), key.upper()]
    for form in forms:
        echo = f"for {form}"
        answer = {**OWM, "name": echo, "weather": [{**OWM["weather"][0], "description": echo}]}
        server.answers[PATH[OPENWEATHERMAP]] = [(200, answer)]
        weather = ask(key=key)
        assert "for (key)" in re.sub("['\"\\\\]", "", weather.place) and weather.place == weather.condition
        assert not any(f in str(weather.as_dict()) for f in forms)
        for status in (401, 404, 429, 500):
            server.answers[PATH[OPENWEATHERMAP]] = [(status, {"message": echo})]
            with pytest.raises(ValueError, match="for .*key") as error:
                ask(key=key, place="41.9, 12.5")
            assert not any(f in str(error.value) for f in forms)
    assert all(query["appid"] == key for _, query in server.asked)


@pytest.mark.parametrize("text", ["x" * 201, "", 7, ["a"], {"a": 1}])
def test_a_name_or_description_that_is_no_short_text(server, text):
    changes = [("name",), ("weather", 0, "description")] if text != "" else [("weather", 0, "description")]
    for path in changes:
        server.answers[PATH[OPENWEATHERMAP]] = [(200, changed(OWM, path, text))]
        with pytest.raises(Unreachable, match="something else") as error:
            ask()
        assert len(str(error.value)) < 300
    server.answers[PATH[OPENWEATHERMAP]] = [(200, changed(OWM, ("name",), " New\n York "))]
    assert ask().place == "New York"
    server.answers[PATH[OPENWEATHERMAP]] = [(200, changed(OWM, ("name",), ""))]
    assert ask(place="41.9, 12.5").place == "41.9, 12.5"


@SERVICES
def test_no_network(service, monkeypatch):
    for name in ("OPENWEATHERMAP_URL", "OPEN_METEO_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="cannot be reached .*Is there a network") as error:
        ask(service, "41.9, 12.5")
    assert KEY not in str(error.value)


def test_the_public_addresses_are_https():
    assert {address for _, address in weather_services.ADDRESSES.values()} == {
        "https://api.openweathermap.org", "https://api.open-meteo.com", "https://geocoding-api.open-meteo.com"
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, place",
    [
        (" Rome ,  IT", "Rome , IT"), ("41.9, 12.5", Coordinates(41.9, 12.5)),
        ("-41.9 -12", Coordinates(-41.9, -12.0)), ("41.9;12.5", Coordinates(41.9, 12.5)),
        ("San Jose 95", "San Jose 95"),
    ],
)  # fmt: skip
def test_places(text, place):
    assert read_place(text) == place


@pytest.mark.parametrize("text, message", [("", "is empty"), ("91, 0", "-90..90"), ("0, 181", "-180..180")])
def test_places_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        read_place(text)
