"""One real ComfyUI server for all live tests, which finds a weather service of the tests' own."""

import os
import subprocess
import sys

import pytest

from tests.lacking import lacking

COMFY_CLI = "comfy-cli==1.23.0"
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


@pytest.fixture(scope="session")
def comfy_cli(tmp_path_factory):
    """Runs the official command line in an environment of its own; the keywords are variables for it. Without
    a package registry there is none to install, and its tests are skipped; but not in CI.
    """
    root = tmp_path_factory.mktemp("comfy_cli")
    python = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for command in (
        [sys.executable, "-m", "venv", str(root / "venv")],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", COMFY_CLI],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            lacking(f"{COMFY_CLI} cannot be installed: {(done.stdout + done.stderr)[-300:]}")
    # It asks for consent to telemetry, and keeps settings in the home folder.
    env = {**os.environ, "DO_NOT_TRACK": "1", "HOME": str(root), "USERPROFILE": str(root)}

    def run(*args, cwd=None, **more):
        command = [str(python), "-m", "comfy_cli", "--skip-prompt", *map(str, args)]
        settings = {"capture_output": True, "text": True, "timeout": 200, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, cwd=cwd, env={**env, **more}, **settings)

    return run
