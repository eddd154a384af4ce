"""The weather node against a local server: cache, key, offline text, interrupt."""

import asyncio
import json
import threading
import time

import pytest

from tests.weather_server import METEO, OWM, weather_server

pytestmark = pytest.mark.host
KEY = "k3y-that-nobody-may-see"
FORECAST = "/v1/forecast"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """The folder of the user's own files, and no key in the environment."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    monkeypatch.delenv("OPENWEATHERMAP_API_KEY", raising=False)
    folder = tmp_path / "user" / "__zsamb"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server(monkeypatch, user, pack):
    monkeypatch.setattr(pack.nodes._host.context.weather, "_cache", {})
    with weather_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def ask(pack):
    node = pack.nodes.weather.DescribeWeather

    def ask(**settings):
        values = {i.id: i.default for i in node.define_schema().inputs}
        text, report = asyncio.run(node.execute(**{**values, **settings})).result
        return text, json.loads(report)

    return ask


def test_both_services(server, ask, monkeypatch):
    text, report = ask()
    assert text == "Snow weather, freezing, a strong breeze, at dawn."
    assert report["source"] == "Open-Meteo" and report["temperature"] == -3.2 and report["warnings"] == []
    assert abs(report["asked"] - time.time()) < 10
    monkeypatch.setenv("OPENWEATHERMAP_API_KEY", KEY)
    text, report = ask(service="OpenWeatherMap", template="{condition}, {temperature}", units="imperial")
    assert text == "Scattered clouds, 71 degrees Fahrenheit" and report["source"] == "OpenWeatherMap"


def test_an_answer_holds_for_the_stated_time(server, ask, pack, monkeypatch):
    fingerprint = pack.nodes.weather.DescribeWeather.fingerprint_inputs
    asked = {"service": "Open-Meteo", "place": "41.9, 12.5", "cache_minutes": 10.0}
    assert fingerprint(**asked) != fingerprint(**asked)  # nothing kept: the host runs the node
    before = fingerprint(**asked)
    ask(**asked)
    assert fingerprint(**asked) == before  # kept: the host need not, nor what comes behind it
    ask(**asked, template="{wind}")
    assert len(server.asked) == 1
    # Of two nodes the host asks both for their fingerprints before it runs either.
    two = [{**asked, "place": place} for place in ("3, 3", "4, 4")]
    before = [fingerprint(**one) for one in two]
    for one in two:
        ask(**one)
    assert [fingerprint(**one) for one in two] == before
    server.asked[1:] = []
    ask(**{**asked, "place": "41.9, 12.6"})
    assert len(server.asked) == 2
    ask(**{**asked, "cache_minutes": 0.0})
    assert len(server.asked) == 3
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 601)
    assert fingerprint(**asked) != fingerprint(**{**asked, "cache_minutes": 11.0})
    ask(**asked)
    assert len(server.asked) == 4


def test_the_cache_does_not_grow_without_end(server, ask, pack):
    for i in range(80):
        ask(place=f"{i}, 0")
    assert len(pack.nodes._host.context.weather._cache) == 64


def test_the_key_comes_from_the_environment_or_the_user_s_folder(server, ask, user, monkeypatch):
    message = "Describe Weather: OpenWeatherMap needs a key.*variable OPENWEATHERMAP_API_KEY or the file"
    with pytest.raises(ValueError, match=message) as error:
        ask(service="OpenWeatherMap")
    assert str(user / "openweathermap.key") in str(error.value) and server.asked == []
    (user / "openweathermap.key").write_text(f"{KEY}\n")
    ask(service="OpenWeatherMap")
    monkeypatch.setenv("OPENWEATHERMAP_API_KEY", "another")
    ask(service="OpenWeatherMap", cache_minutes=0.0)
    assert [query["appid"] for _, query in server.asked] == [KEY, "another"]


def test_the_key_is_in_no_output_error_or_log(server, ask, monkeypatch, caplog, capsys):
    import logging
    import traceback

    monkeypatch.setenv("OPENWEATHERMAP_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    texts = [ask(service="OpenWeatherMap")]
    failures = [
        (401, {"message": f"Invalid API key {KEY}"}), (404, {"message": KEY}), (429, {"message": KEY}),
        (500, KEY.encode()), (200, b"{" + KEY.encode()), (200, {**OWM, "dt": KEY}),
        (302, b"", {"Location": f"http://x.invalid/?appid={KEY}"}),
    ]  # fmt: skip
    for failure in failures:
        server.answers["/data/2.5/weather"] = [failure]
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", no_sleep)
            with pytest.raises(ValueError) as error:
                ask(service="OpenWeatherMap", cache_minutes=0.0)
        texts += ["".join(traceback.format_exception(error.value, chain=True)), str(error.value)]
        if failure[0] not in (401, 404):
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "sleep", no_sleep)
                texts.append(ask(service="OpenWeatherMap", cache_minutes=0.0, offline="fog"))
    monkeypatch.setenv("OPENWEATHERMAP_URL", "http://127.0.0.1:9")
    with pytest.raises(ValueError) as error:
        ask(service="OpenWeatherMap", cache_minutes=0.0)
    texts.append("".join(traceback.format_exception(error.value, chain=True)))
    assert all(query["appid"] == KEY for _, query in server.asked) and len(server.asked) > 10
    assert not any(KEY in str(text) for text in texts)
    assert KEY not in caplog.text and KEY not in "".join(capsys.readouterr())


async def no_sleep(seconds):
    pass


def test_the_offline_text(server, ask, caplog):
    server.answers[FORECAST] = [(500, b"")]
    with pytest.raises(ValueError, match="after 3 tries.*Give an offline text to go on without it"):
        ask()
    text, report = ask(offline=" soft\nrain ")
    assert text == "soft rain" and report["source"] == "offline"
    assert "gives no weather after 3 tries" in report["warnings"][0] and "offline text is used" in caplog.text
    server.answers[FORECAST] = [(200, METEO)]
    assert ask(offline="soft rain")[0].startswith("Snow")  # what failed was not kept


def test_a_mistake_is_an_error_with_an_offline_text_too(server, ask):
    server.answers["/v1/search"] = [(200, {})]
    for settings, message in (
        ({"place": "Atlantis"}, "Open-Meteo knows no place"),
        ({"place": " "}, "place is empty"),
        ({"template": "{sky}"}, "template names {sky}"),
        ({"service": "OpenWeatherMap"}, "needs a key"),
    ):
        with pytest.raises(ValueError, match=f"Describe Weather: .*{message}"):
            ask(offline="soft rain", **settings)


def test_a_slow_service_is_interrupted(server, ask):
    import comfy.model_management as mm

    server.answers[FORECAST] = [(200, METEO, {}, 5)]
    timer = threading.Timer(0.5, mm.interrupt_current_processing)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(mm.InterruptProcessingException):
        ask(place="1, 1")
    assert time.monotonic() - begun < 3
    timer.join()


def test_the_host_s_loop_stays_free(server, ask, pack):
    """The node waits without holding up other nodes."""
    server.answers[FORECAST] = [(200, METEO, {}, 0.5)]
    node = pack.nodes.weather.DescribeWeather
    values = {i.id: i.default for i in node.define_schema().inputs}
    ticks = []

    async def both():
        async def tick():
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(tick())
        await node.execute(**{**values, "place": "1, 1"})
        task.cancel()

    asyncio.run(both())
    assert len(ticks) >= 5
