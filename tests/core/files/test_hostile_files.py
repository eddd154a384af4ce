"""Files that ask for more than they hold: a message of one kind, in little time and memory."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.files.hostile_files import CASES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of all cases, in a process whose memory is limited."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.files.hostile_files", str(tmp_path_factory.mktemp("hostile"))],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_asks_for_much_is_refused(outcomes, case):
    kind, message, length, seconds = outcomes[case]
    assert kind in ("ValueError", "Unreadable"), message
    assert re.search(CASES[case], message) and length < 1500, message
    assert seconds < 30
