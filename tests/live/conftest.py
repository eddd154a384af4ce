"""One real ComfyUI server for all live tests, which finds a weather service of the tests' own."""

import os
import subprocess
import sys

import pytest

from tests.lacking import lacking

COMFY_CLI = "comfy-cli==1.23.0"
# Run over packs by others, who publish what they find.
CHECKERS = ("comfy-import-guard==1.3.0", "comfy-test==0.4.15")
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
    from tools.hosting.host import find_host
    from tools.hosting.server import Server

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**weather.environment(), "OPENWEATHERMAP_API_KEY": WEATHER_KEY}.items():
            patch.setenv(name, value)
        with Server(find_host(), tmp_path_factory.mktemp("server")) as server:
            yield server


@pytest.fixture(scope="session")
def tools_python(tmp_path_factory):
    """The Python of an environment of their own for the registry's command line and the checkers. Without a
    package registry there is none, and its tests are skipped; but not in CI.
    """
    root = tmp_path_factory.mktemp("tools")
    python = root / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = (COMFY_CLI, *CHECKERS)
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    for command in (
        [sys.executable, "-m", "venv", str(root / "venv")],
        [str(python), *install, *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            lacking(f"{', '.join(packages)} cannot be installed: {(done.stdout + done.stderr)[-300:]}")
    return python


@pytest.fixture(scope="session")
def comfy_cli(tools_python, tmp_path_factory):
    """Runs the official command line; the keywords are variables for it."""
    # It asks for consent to telemetry, and keeps settings in the home folder.
    home = str(tmp_path_factory.mktemp("home"))
    env = {**os.environ, "DO_NOT_TRACK": "1", "HOME": home, "USERPROFILE": home}

    def run(*args, cwd=None, **more):
        command = [str(tools_python), "-m", "comfy_cli", "--skip-prompt", *map(str, args)]
        settings = {"capture_output": True, "text": True, "timeout": 200, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, cwd=cwd, env={**env, **more}, **settings)

    return run


@pytest.fixture(scope="session")
def checker(tools_python):
    """Runs one of the commands of CHECKERS."""

    def run(command, *args, cwd=None):
        arguments = [str(tools_python.with_name(command)), *map(str, args)]
        return subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)

    return run
