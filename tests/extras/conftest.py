"""The packages that are extras, with the network closed and no models in any cache."""

import os
import socket
import tempfile

import pytest

os.environ["HF_HOME"] = tempfile.mkdtemp()  # before anything imports huggingface_hub


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    """Whoever asks for the network fails, and the test with them."""

    def refuse(*_, **__):
        raise OSError("the network is closed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(OSError, match="closed"):
        socket.create_connection(("127.0.0.1", 9))


@pytest.fixture(scope="session")
def pack():
    from demo.training.hosting import import_host
    from demo.training.measure import load_pack

    import_host()
    return load_pack()


@pytest.fixture
def models_in(tmp_path, monkeypatch, pack):
    """The host's model folders, in a folder of the test's."""
    import folder_paths

    for name in ("transformers", "whisper", "clap"):
        (tmp_path / name).mkdir()
        known = {".pt"} if name != "transformers" else set()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], known))
    return tmp_path
