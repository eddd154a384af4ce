"""One real ComfyUI server for all live tests."""

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    from tools.host import find_host
    from tools.server import Server

    with Server(find_host(), tmp_path_factory.mktemp("server")) as server:
        yield server
