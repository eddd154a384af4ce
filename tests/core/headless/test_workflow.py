"""Workflows in the API format: read, addressed, changed, and checked against what a server says."""

import json

import pytest

from tools.hosting import workflows
from zsamb_core.headless.workflow import (
    WorkflowError,
    check_inputs,
    find_inputs,
    find_picture_input,
    read_workflow,
    set_input,
    title,
)

REFERENCE = {
    "1": {"class_type": "Sampler", "inputs": {"seed": 1, "cfg": 5.0, "model": ["2", 0], "name": "ddim"}},
    "2": {
        "class_type": "Patch",
        "inputs": {"seed": 7, "strength": 1, "on": True, "refs.a": ["3", 0], "refs.b": "x"},
        "_meta": {"title": "v1.5 patch"},
    },
    "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Style"}},
    "4": {"class_type": "LoadImage", "inputs": {"image": "b.png"}, "_meta": {"title": "Style"}},
    "5": {"class_type": "Scale", "inputs": {"image": ["3", 0]}, "_meta": {"title": "Fit"}},
}


def value(workflow, node, name):
    return workflow[node]["inputs"][name]


def test_an_address_is_an_id_a_title_or_a_name():
    assert find_inputs(REFERENCE, "1.seed") == [("1", "seed")]
    assert find_inputs(REFERENCE, "v1.5 patch.strength") == [("2", "strength")]
    assert find_inputs(REFERENCE, "2.refs.b") == [("2", "refs.b")] == find_inputs(REFERENCE, "refs.b")
    assert find_inputs(REFERENCE, "seed") == [("1", "seed"), ("2", "seed")]
    assert find_inputs(REFERENCE, "image") == [("3", "image"), ("4", "image")]


@pytest.mark.parametrize(
    "address, message",
    [
        ("sede", "sede: no node .* has an input of this name. Did you mean 'seed'"),
        ("1.sede", r"node 1 \(Sampler\) has no input 'sede'. Did you mean 'seed'\? It has seed, cfg"),
        ("1.model", r"its input 'model' comes from node 2 \(v1.5 patch\); set an input of that one"),
        ("model", r"comes from another node \(1.model\)"),
        ("9.seed", r"no node of the workflow has the id or title '9'; there are 1 \(Sampler\), 2 \(v1.5"),
        ("Style.image", "nodes 3, 4 all have this title; give the id"),
    ],
)
def test_addresses_that_fit_nothing(address, message):
    with pytest.raises(WorkflowError, match=message):
        set_input(REFERENCE, address, "1")


def test_values_take_the_kind_of_those_before_them():
    before = json.dumps(REFERENCE)

    def after(address, new):
        node, name = find_inputs(REFERENCE, address)[0]
        new_value = value(set_input(REFERENCE, address, new), node, name)
        return new_value, type(new_value)

    assert after("1.seed", "18446744073709551615") == (2**64 - 1, int)
    assert after("1.seed", "1E+9") == (10**9, int)
    assert after("1.seed", 5) == (5, int)
    assert after("cfg", "7.5") == (7.5, float)
    assert after("strength", "0.5") == (0.5, float)  # JSON has it as 1
    assert after("on", "False") == (False, bool)
    assert after("name", "12") == ("12", str)
    assert after("name", "") == ("", str)
    assert after("name", ["a cat", "a dog"]) == ("a cat\na dog", str)
    assert json.dumps(REFERENCE) == before


@pytest.mark.parametrize("new", ["five", "", "nan", "1e999", float("nan"), True, None, [5], ["2", 0]])
def test_what_is_no_number_is_not_set(new):
    with pytest.raises(WorkflowError, match="1.seed is .*expected a number such as 1"):
        set_input(REFERENCE, "1.seed", new)


@pytest.mark.parametrize("address, new", [("on", "1"), ("on", 1), ("name", 5), ("name", None), ("name", [])])
def test_other_kinds_are_not_set(address, new):
    with pytest.raises(WorkflowError, match=f"{address} is .*expected"):
        set_input(REFERENCE, address, new)


def test_pictures_go_to_nodes_that_take_files():
    assert find_picture_input(REFERENCE, "3") == "3"
    with pytest.raises(WorkflowError, match="3, 4 all have this title"):
        find_picture_input(REFERENCE, "Style")
    for node in ("5", "Fit", "1", "absent"):
        with pytest.raises(WorkflowError, match=r"take a picture file: 3 \(Style\), 4 \(Style\)"):
            find_picture_input(REFERENCE, node)


def test_titles():
    assert title(REFERENCE, "2") == "v1.5 patch" == title(REFERENCE, "2.0.0.1")
    assert title(REFERENCE, "1") == "Sampler" and title(REFERENCE, "77") == "node 77"


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"nodes": [], "links": []}', "as the canvas saves it.*Export"),
        ('{"1": {"inputs": {}}}', "node '1' lacks class_type"),
        ('{"1": {"class_type": "A"}}', "node '1' lacks class_type or inputs"),
        ("[]", "found a list"),
        ("{}", "found an object"),
        ("{", "not a JSON file"),
    ],
)
def test_files_that_are_no_api_workflow(tmp_path, content, message):
    path = tmp_path / "w.json"
    path.write_text(content)
    with pytest.raises(WorkflowError, match=message):
        read_workflow(path)
    with pytest.raises(WorkflowError, match="absent.json"):
        read_workflow(tmp_path / "absent.json")


def test_shipped_workflows_are_read():
    for path in workflows.FOLDER.glob("*.json"):
        assert read_workflow(path) == workflows.load(path.stem)


def test_what_a_server_would_refuse_is_known_before():
    ranged = {
        "required": {"seed": ["INT", {"min": 0, "max": 9}], "strength": ["FLOAT", {"max": 1.0}]},
        "optional": {"name": ["COMBO", {"options": ["ddim"]}], "image": [["x.png"], {"image_upload": True}]},
    }
    info = {c: {"input": ranged} for c in ("Sampler", "Patch", "LoadImage", "Scale")}

    def check(*changes):
        changed, inputs = REFERENCE, []
        for address, new in changes:
            inputs += find_inputs(changed, address)
            changed = set_input(changed, address, new)
        return check_inputs(changed, inputs, info)

    assert check(("seed", 3), ("strength", 0.5), ("name", "ddim"), ("3.image", "x.png"), ("cfg", 99)) == []
    assert check(("3.image", "clips/x.png")) == [] == check(("3.image", "x_1.png [output]"))
    assert "'y.png', which is no file in the server's input folder" in check(("3.image", "y.png"))[0]
    (wrong,) = check(("2.strength", 7))
    assert wrong == "strength of node 2 (v1.5 patch) is 7, expected at most 1.0"
    assert len(check(("seed", 10))) == 2 and "is -1, expected at least 0" in check(("1.seed", -1))[0]
    assert "expected a whole number" in check(("1.seed", "0.5"))[0]
    assert "'dddim', expected one of ddim" in check(("name", "dddim"))[0]
    assert "no class 'Scale'" in check_inputs(REFERENCE, [], {**info, "Scale": None})[0]
