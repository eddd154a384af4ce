"""One real ComfyUI server for all live tests, which finds a weather service of the tests' own."""

import pytest

WEATHER_KEY = "k3y-that-nobody-may-see"


@pytest.fixture(scope="session")
def weather():
    from tests.weather_server import weather_server

    with weather_server() as weather:
        yield weather


@pytest.fixture(scope="session")
def stand_ins(server, tiny):
    """The files that the shipped workflows name, where the server looks for them."""
    from tests.live.stand_ins import save_all

    save_all(server.base, tiny)


@pytest.fixture(scope="session")
def server(tmp_path_factory, weather):
    from tools.host import find_host
    from tools.server import Server

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**weather.environment(), "OPENWEATHERMAP_API_KEY": WEATHER_KEY}.items():
            patch.setenv(name, value)
        with Server(find_host(), tmp_path_factory.mktemp("server")) as server:
            yield server
