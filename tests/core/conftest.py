"""Without what ComfyUI no longer requires. Local servers that answer as told, and batches of rows."""

from types import SimpleNamespace

import pytest

from tests.absent import take_away

take_away()


@pytest.fixture(scope="module")
def servers(hurry):
    """Two of them."""
    from tests.core.headless.strange_server import strange_server

    with strange_server() as one, strange_server() as two:
        yield one, two


@pytest.fixture(scope="module")
def hurry():
    """Waiting for a server takes no time."""
    from zsamb_core.headless import client, pool

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "PAUSE", 0.01)
        patch.setattr(client, "FILING", 0.15)
        patch.setattr(client, "SILENCE", 0.3)
        patch.setattr(pool, "PAUSE", 0.05)
        yield


@pytest.fixture
def server(servers):
    """The first of two, both as new."""
    for each in servers:
        each.reset()
    return servers[0]


@pytest.fixture
def batch(tmp_path, capsys):
    """``batch(rows, server, ...)`` runs them, and returns code, out, err and what is complete."""
    from tests.core.headless.batches import Batch, refuse_ugly

    def done(rows, *servers):
        this = Batch(tmp_path, rows)
        code = this.run(*servers)
        console = capsys.readouterr()
        refuse_ugly(console.err)
        return SimpleNamespace(code=code, out=console.out, err=console.err, complete=this.complete())

    return done
