"""What saved workflows rely on: the nodes' inputs stay as they were, and what does not fit them is refused
before anything runs.
"""

import copy
import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tools.derive import snapshot

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def before():
    return json.loads(snapshot.FILE.read_text())


@pytest.fixture(scope="module")
def now(server):
    return snapshot.public(server.get("/object_info"))


def test_nodes_inputs_and_outputs_are_as_written_down(now, before):
    changed = snapshot.differences(before, now)
    if changed:
        pytest.fail("\n".join([*changed, snapshot.WHAT_TO_DO]), pytrace=False)


PUBLISHED = json.loads(Path(__file__).with_name("first_published.json").read_text())


@pytest.mark.parametrize("kind", PUBLISHED)
def test_what_was_first_published_stays(now, kind):
    """Version 0.1.0, which no command writes anew. The canvas saves the values of widgets by place, and an
    API workflow names its inputs: what came later is behind, optional, and has a default.
    """
    node, was = now[kind], PUBLISHED[kind]
    inputs = node["inputs"]
    widgets = snapshot.widgets(inputs)
    assert widgets[: len(was["widgets"])] == list(was["widgets"]) and set(was["sockets"]) <= set(inputs)
    for name in set(inputs) - {*was["widgets"], *was["sockets"]}:
        assert inputs[name]["group"] == "optional", name
        assert name not in widgets or "default" in inputs[name], name
    for name, options in was["widgets"].items():
        assert not options or set(options) <= set(inputs[name]["options"]), name
    outputs = [output["type"] for output in node["outputs"]]
    assert outputs[: len(was["outputs"])] == was["outputs"]


def moved(node, name, place):
    """The node with an input at another place."""
    inputs = list(node["inputs"].items())
    item = next(i for i in inputs if i[0] == name)
    inputs.remove(item)
    inputs.insert(place, item)
    node["inputs"] = dict(inputs)


def renamed(node, old, new):
    node["inputs"] = {new if k == old else k: v for k, v in node["inputs"].items()}


PATCH, BLEND = "ZSAMB_SharedAttention", "ZSAMB_MultiRefBlend"
CHANGES = {
    f"{PATCH}: the node is gone or renamed": lambda now: now.pop(PATCH),
    "ZSAMB_New: the node is new": lambda now: now.update(ZSAMB_New=now[PATCH]),
    f"{PATCH}: input 'strength' is gone or renamed": lambda now: renamed(now[PATCH], "strength", "power"),
    f"{PATCH}: required input 'power' is new": lambda now: renamed(now[PATCH], "strength", "power"),
    f"{PATCH}: input 'strength': max was 1.0, is 0.5": (
        lambda now: now[PATCH]["inputs"]["strength"].update(max=0.5)
    ),
    f"{PATCH}: input 'strength': default was 1.0, is not there": (
        lambda now: now[PATCH]["inputs"]["strength"].pop("default")
    ),
    f'{PATCH}: input \'share\': options was ["reference", "all pictures"], is ["reference"]': (
        lambda now: now[PATCH]["inputs"]["share"]["options"].remove("all pictures")
    ),
    f'{PATCH}: input \'model\': type was "MODEL", is "CLIP"': (
        lambda now: now[PATCH]["inputs"]["model"].update(type="CLIP")
    ),
    f'{PATCH}: input \'reference\': group was "optional", is "required"': (
        lambda now: now[PATCH]["inputs"]["reference"].update(group="required")
    ),
    f"{PATCH}: the widgets were, in order, strength, preset, ": lambda now: moved(now[PATCH], "share", 0),
    f"{PATCH}: outputs was ": lambda now: now[PATCH]["outputs"].append({"name": "info", "type": "STRING"}),
    f'{PATCH}: category was "style/Z-SAMB", is "style"': lambda now: now[PATCH].update(category="style"),
    f"{BLEND}: input 'references': max was 16, is 8": (
        lambda now: now[BLEND]["inputs"]["references"].update(max=8)
    ),
    f"{BLEND}: input 'references': of was ": (
        lambda now: now[BLEND]["inputs"]["references"]["of"]["reference"].update(type="LATENT")
    ),
}


@pytest.mark.parametrize("line", CHANGES)
def test_a_change_is_told_in_a_line(before, line):
    now = copy.deepcopy(before)
    CHANGES[line](now)
    assert any(difference.startswith(line) for difference in snapshot.differences(before, now))


def test_one_more_widget_at_the_end_is_no_change_of_order(before):
    now = copy.deepcopy(before)
    now[PATCH]["inputs"]["extra"] = {"type": "INT", "group": "required"}
    assert snapshot.differences(before, now) == [f"{PATCH}: required input 'extra' is new"]


def test_files_and_the_host_s_lists_are_not_the_pack_s(before):
    assert before["ZSAMB_LoadIPAdapter"]["inputs"]["file"]["options"] == "files"
    assert before["ZSAMB_LoadVisionModel"]["inputs"]["name"]["options"] == "files"
    assert before["ZSAMB_RecordReference"]["inputs"]["sampler_name"]["options"] == "the host's"


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def post(server, body):
    """(status, the host's answer)."""
    request = urllib.request.Request(
        f"{server.url}/prompt", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ran(server):
    """The ids of what has run, once nothing runs or waits."""
    deadline = time.time() + 60
    while any(server.get("/queue").values()):
        assert time.time() < deadline
        time.sleep(0.1)
    return set(server.get("/history"))


def refusal(server, prompt):
    """The host's answer to what it must not run."""
    before = ran(server)
    status, answer = post(server, {"prompt": prompt})
    assert status == 400 and "prompt_id" not in answer
    assert ran(server) == before
    return answer


def patched(**changed):
    """Shared Attention on the demo model; None takes an input away."""
    inputs = {
        "model": ["1", 0], "strength": 1.0, "preset": "normal", "score_shift": 0.0, "score_scale": 1.0,
        "share": "all pictures", "blocks": "all", "only_self_level": 0.0, "start_percent": 0.0,
        "end_percent": 1.0, "share_group_norm": False, **changed,
    }  # fmt: skip
    settings = {key: value for key, value in inputs.items() if value is not None}
    return {
        "1": node("ZSAMB_LoadDemoModel"),
        "2": node(PATCH, **settings),
        "3": node("PreviewAny", source=["2", 0]),
    }


def shown(loader, **inputs):
    return {"2": node(loader, **inputs), "3": node("PreviewAny", source=["2", 0])}


def outcome(server, prompt):
    """How a run ended that the host took."""
    status, answer = post(server, {"prompt": prompt})
    assert status == 200 and answer["node_errors"] == {}
    assert answer["prompt_id"] in ran(server)
    return server.get("/history")[answer["prompt_id"]]["status"]


def test_a_prompt_that_fits_is_run(server):
    """So the refusals below are for what each changes."""
    assert outcome(server, patched())["status_str"] == "success"


@pytest.mark.parametrize("value", [True, False, "auto", "on", "off", ["0", 0], None])
def test_group_norms_are_a_choice_now_and_were_a_switch(server, value):
    """Also by a link from a node that gives true or false, and left out as in the first form."""
    prompt = {"0": node("PrimitiveBoolean", value=True), **patched(share_group_norm=value)}
    assert outcome(server, prompt)["status_str"] == "success"


def test_an_input_that_the_node_does_not_have_is_left_out_by_the_host(server):
    """The host tells no node of it; what was meant keeps its value."""
    assert outcome(server, patched(strenght=0.5))["status_str"] == "success"


def test_a_name_from_another_node_is_looked_for_when_it_is_known(server):
    """A linked value is not there yet when the host validates."""
    prompt = {
        "0": node("PrimitiveString", value="a/b"),
        "1": node("ComfySwitchNode", switch=True, on_true=["0", 0], on_false=["0", 0]),
        **shown("ZSAMB_LoadVisionModel", name=["1", 0]),
    }
    status = outcome(server, prompt)
    assert status["status_str"] == "error"
    assert "Load Vision Model: the folder 'a/b' with a config.json was not found" in str(status["messages"])


@pytest.mark.parametrize(
    "prompt, kind, message",
    [
        (shown("ZSAMB_Unheard"), "missing_node_type", "Node 'ZSAMB_Unheard' not found"),
        ({"1": node("ZSAMB_LoadDemoModel")}, "prompt_no_outputs", "Prompt has no outputs"),
    ],
)
def test_a_prompt_that_is_no_workflow_is_refused(server, prompt, kind, message):
    error = refusal(server, prompt)["error"]
    assert error["type"] == kind and message in error["message"]


def test_a_body_without_a_prompt_is_refused(server):
    before = ran(server)
    status, answer = post(server, {"workflow": patched()})
    assert status == 400 and answer["error"]["type"] == "no_prompt" and ran(server) == before


NOT_FOUND = "a config.json was not found, expected it in one of "
REFUSED = {
    "missing input": (patched(strength=None), "required_input_missing", "strength"),
    "missing reference": (
        shown(BLEND, weights="1", method="slerp", fit="crop"), "required_input_missing", "reference0"
    ),
    "wrong type": (patched(strength="much"), "invalid_input_type", "strength, much"),
    "wrong link": (
        patched(model=["1", 1]),
        "return_type_mismatch",
        "model, received_type(CLIP) mismatch input_type(MODEL)",
    ),
    "too large": (patched(strength=7), "value_bigger_than_max", "strength"),
    "too small": (patched(end_percent=-0.5), "value_smaller_than_min", "end_percent"),
    "no such option": (patched(preset="best"), "value_not_in_list", "preset: 'best' not in ['auto',"),
    "no such choice of group norms": (
        patched(share_group_norm="yes"),
        "custom_validation_failed",
        "share_group_norm is 'yes', expected auto, on, off",
    ),
    "no such adapter": (
        shown("ZSAMB_LoadIPAdapter", file="x.safetensors"), "value_not_in_list", "file: 'x.safetensors'"
    ),
    "the default vision model": (
        shown("ZSAMB_LoadVisionModel", name="facebook/dino-vitb8"),
        "custom_validation_failed",
        f"Load Vision Model: the folder 'facebook/dino-vitb8' with {NOT_FOUND}",
    ),
    "no such vision model": (
        shown("ZSAMB_LoadVisionModel", name="a/b"),
        "custom_validation_failed",
        f"Load Vision Model: the folder 'a/b' with {NOT_FOUND}",
    ),
    "no name": (
        shown("ZSAMB_LoadVisionModel", name=5),
        "custom_validation_failed",
        "Load Vision Model: name is 5, expected text such as 'facebook/dino-vitb8'",
    ),
    "no such caption model": (
        shown("ZSAMB_LoadCaptionModel", name="a/b"),
        "custom_validation_failed",
        f"Load Caption Model: the folder 'a/b' with {NOT_FOUND}",
    ),
    "no such speech model": (
        shown("ZSAMB_LoadSpeechModel", name="base.pt"),
        "custom_validation_failed",
        "Load Speech Model: the file 'base.pt' was not found, expected it in one of ",
    ),
    "outside the models": (
        shown("ZSAMB_LoadSummaryModel", name="../secret"),
        "custom_validation_failed",
        "Load Summary Model: the name '../secret' leads elsewhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_an_input_is_refused_at_the_node(server, case):
    prompt, kind, message = REFUSED[case]
    answer = refusal(server, prompt)
    assert answer["error"]["type"] == "prompt_outputs_failed_validation"
    assert list(answer["node_errors"]) == ["2"]
    (error,) = answer["node_errors"]["2"]["errors"]
    assert error["type"] == kind and message in error["details"]
