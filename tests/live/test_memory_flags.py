"""A server that keeps nothing in memory for later draws what one that keeps all of it does."""

import subprocess
import sys

import numpy as np
import pytest

from tools.hosting import workflows
from tools.hosting.host import find_host
from tools.hosting.server import Server, device_args

pytestmark = pytest.mark.live

FLAGS = (
    "--disable-smart-memory",
    "--disable-dynamic-vram",
    "--disable-pinned-memory",
    "--disable-async-offload",
    "--cache-none",
)
FIRST = "1 Try it - a set in one style"


def test_every_model_is_put_away_after_use(server, tmp_path):
    workflow = workflows.with_steps(workflows.load(FIRST), 3)
    kept = server.run(workflow)
    with Server(find_host(), tmp_path, options=FLAGS) as frugal:
        once, again = frugal.run(workflow), frugal.run(workflow)
    assert len(kept) == len(once) == len(again) > 0
    assert all(
        np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in zip(kept, once, again, strict=True)
    )


@pytest.mark.skipif(device_args() != ["--cpu"], reason="here is a device, where ComfyUI takes these flags")
@pytest.mark.parametrize("flag", ["--lowvram", "--novram"])
def test_comfyui_itself_has_no_little_memory_on_a_cpu(flag):
    """Why no server is started with these flags here. `tests/host/style_aligned/test_low_memory.py` loads a
    model in part as they do. Once this fails, the flags belong into the test above.
    """
    done = subprocess.run(
        [sys.executable, str(find_host() / "main.py"), "--cpu", flag], capture_output=True, text=True
    )
    assert done.returncode == 2 and f"{flag}: not allowed with argument --cpu" in done.stderr
