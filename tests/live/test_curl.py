"""The commands of docs/headless.md under "curl", run as they stand there, on a workflow of few steps."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.lacking import lacking
from tools.hosting import workflows

pytestmark = pytest.mark.live
PAGE = Path(__file__).resolve().parents[2] / "docs" / "headless.md"
FLOW = "workflows/api/style_aligned_prompts.json"


@pytest.fixture(scope="module")
def shell(server, tmp_path_factory):
    """Runs one of the page's commands, with other words in place of some."""
    if missing := [name for name in ("bash", "jq", "curl") if not shutil.which(name)]:
        lacking(f"{', '.join(missing)} not found")
    folder = tmp_path_factory.mktemp("curl")
    twin = workflows.with_steps(workflows.demo_twin(workflows.load("style_aligned_prompts")), 2)
    (folder / FLOW).parent.mkdir(parents=True)
    (folder / FLOW).write_text(json.dumps(twin))

    def run(command, **words):
        for old, new in {"http://127.0.0.1:8188": server.url, **words}.items():
            command = command.replace(old, new)
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    run.folder = folder
    return run


def commands():
    part = PAGE.read_text().partition("\n## curl\n")[2].partition("\n## ")[0]
    return [
        line for block in re.findall(r"^```\n(.*?)^```", part, re.M | re.S) for line in block.splitlines()
    ]


def test_a_workflow_is_posted_and_its_pictures_come(server, shell):
    as_it_is, changed, without_jq, files, view = commands()
    for command in (as_it_is, without_jq, changed):
        answer = json.loads(shell(command))
        assert answer["node_errors"] == {} and answer["prompt_id"]
    deadline = time.monotonic() + 120
    while not (listed := shell(files, PROMPT_ID=answer["prompt_id"])):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    names = re.findall(r"^8 output /(.+)$", listed, re.M)
    assert len(names) == 2  # of the changed prompts
    shell(view, **{"style_aligned_00001_.png": names[0]})
    assert (shell.folder / "cat.png").read_bytes().startswith(b"\x89PNG")


def test_the_bare_workflow_is_refused(server, shell):
    command = f"curl -s {server.url}/prompt -H 'Content-Type: application/json' -d @{FLOW}"
    assert "no_prompt" in shell(command)
