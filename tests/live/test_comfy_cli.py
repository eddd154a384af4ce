"""What docs/headless.md says of the official comfy-cli, with the real one in an environment of its own."""

import json

import pytest

from tools.derive.titles import title_of
from tools.hosting import workflows

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def cli(comfy_cli):
    """Runs the command; returns its exit code and the JSON it ends with."""

    def run(*args, **more):
        done = comfy_cli("--json", *args, **more)
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def flow(tmp_path):
    """Writes the demo twin with other inputs and returns its path."""
    twin = workflows.demo_twin(workflows.load("style_aligned_prompts"))

    def write(**values):
        changed = workflows.fill(twin, **{"steps": 3, "prompts": "a cat", "style": "", **values})
        (tmp_path / "flow.json").write_text(json.dumps(changed))
        return tmp_path / "flow.json"

    return write


def run_args(server, path):
    return ("run", "--workflow", path, "--host", "127.0.0.1", "--port", server.port, "--wait")


def test_it_runs_an_api_workflow_and_fetches_the_pictures(server, cli, flow, tmp_path):
    code, answer = cli(*run_args(server, flow()))
    assert code == 0 and answer["data"]["status"] == "completed" and len(answer["data"]["outputs"]) == 1
    code, answer = cli(
        "download", answer["data"]["prompt_id"], "--out-dir", tmp_path / "out", "--where", "local",
        COMFY_LOCAL_URL=server.url,
    )  # fmt: skip
    assert code == 0 and len(list((tmp_path / "out").glob("*.png"))) == 1


def test_errors_have_an_exit_code_and_a_message(server, cli, flow):
    code, answer = cli(*run_args(server, flow(blocks="output 9")))
    assert code == 1 and "'output 9' names no block of this model" in answer["error"]["message"]
    code, answer = cli(*run_args(server, flow(strength=7)))
    assert code == 1 and "strength=7 above" in json.dumps(answer["error"])


def test_run_does_not_change_inputs_of_a_workflow(server, cli, flow):
    code, answer = cli(*run_args(server, flow()), "--set", "6.seed=5")
    assert code == 1 and "cannot be combined with --workflow" in answer["error"]["message"]
    # Nor does its editor, in the API format.
    code, answer = cli("workflow", "set-slot", flow(), "6.seed=5")
    assert code == 1 and answer["error"]["code"] == "workflow_not_frontend_format"


def test_its_editor_changes_the_canvas_form(server, cli, tmp_path):
    canvas = tmp_path / "canvas.json"
    canvas.write_bytes((workflows.FOLDER.parent / f"{title_of('style_aligned_prompts')}.json").read_bytes())
    where = ("--host", "127.0.0.1", "--port", server.port)
    code, answer = cli("workflow", "set-slot", canvas, "6.seed=5", "2.prompts=a boat", *where)
    assert code == 0 and answer["data"]["applied"] == ["6.seed", "2.prompts"]
    code, answer = cli("run", "--workflow", canvas, "--print-prompt", *where)
    prompt = answer["data"]["prompt"]
    assert code == 0
    assert prompt["6"]["inputs"]["seed"] == 5 and prompt["2"]["inputs"]["prompts"] == "a boat"
