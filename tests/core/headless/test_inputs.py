"""``zsamb inputs``: what it lists can be set, by the very name that it lists."""

import json

import pytest

from tools.hosting import workflows
from zsamb_core import cli
from zsamb_core.headless.inputs import settable
from zsamb_core.headless.workflow import find_inputs, read_workflow, set_input

ODD = {
    "1": {"class_type": "Load", "inputs": {"image": "a.png"}, "_meta": {"title": "Style \u9ce5\x1b[2J"}},
    "1.0": {"class_type": "A", "inputs": {"seed": 2**63, "x.y": 1.5}, "_meta": {"title": "Dots"}},
    "1.5": {"class_type": "A", "inputs": {"seed": 1}},
    "2": {
        "class_type": "B",
        "inputs": {"on": True, "none": None, "object": {"a": 1}, "text": "two  blanks\nline", "in": ["1", 0]},
        "_meta": {"title": "2nd"},
    },
    "3": {"class_type": "C", "inputs": {"picture": ["1", 0]}},
}
PATHS = sorted(workflows.FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_each_name_sets_its_input_and_no_other(path):
    workflow = read_workflow(path)
    listed = list(settable(workflow))
    own = {
        (node, name)
        for node, entry in workflow.items()
        for name, value in entry["inputs"].items()
        if not isinstance(value, list)
    }
    assert {(item.node, item.name) for item in listed} == own and len(listed) == len(own) > 10
    for item in listed:
        assert find_inputs(workflow, item.address) == [(item.node, item.name)]
        # The value that is shown can be given back as text, as a command line does.
        text = item.value if isinstance(item.value, str) else json.dumps(item.value)
        assert set_input(workflow, item.address, text) == workflow
    pictures = {item.node for item in listed if item.is_picture}
    assert pictures == {n for n, entry in workflow.items() if entry["class_type"] == "LoadImage"}


def test_what_is_said_of_each(tmp_path, capsys):
    (tmp_path / "flow.json").write_text(json.dumps(ODD))
    assert cli.main(["inputs", str(tmp_path / "flow.json")]) == 0
    console = capsys.readouterr()
    assert console.out.splitlines() == [
        "node 1: Style \u9ce5\\x1b[2J, class Load",
        '  1.image  string   "a.png"  (a picture: --image 1=FILE sends one)',
        "node 1.0: Dots, class A",
        # "1.0.seed" would be the input "0.seed" of node 1.
        "  Dots.seed  number   9223372036854775808",
        "  Dots.x.y   number   1.5",
        "node 1.5: A, class A",
        "  (seed: no name is this input's alone)  number   1",
        "node 2: 2nd, class B",
        "  2.on      boolean  true",
        "  2.none    null     null",
        '  2.object  object   {"a": 1}',
        '  2.text    string   "two  blanks\\nline"',
    ]
    assert "zsamb run --set NAME=VALUE" in console.err


def test_a_class_is_no_name():
    """A node without a title is shown by its class, which --set does not take."""
    (item,) = settable({"a": {"class_type": "A", "inputs": {"seed": 1}}})
    assert item.address == "a.seed"


def test_a_workflow_without_any(tmp_path, capsys):
    (tmp_path / "flow.json").write_text(json.dumps({"3": ODD["3"], "1": {"class_type": "X", "inputs": {}}}))
    assert cli.main(["inputs", str(tmp_path / "flow.json")]) == 0
    console = capsys.readouterr()
    assert console.out.strip() == "" and "No input of this workflow can be set" in console.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ('{"nodes": []}', "File > Export (API)"),
        ("[]", "expected an object of nodes"),
    ],
)
def test_what_is_no_workflow(tmp_path, capsys, content, message):
    (tmp_path / "flow.json").write_text(content)
    assert cli.main(["inputs", str(tmp_path / "flow.json")]) == 2
    console = capsys.readouterr()
    assert console.out == "" and console.err.startswith("zsamb inputs: ") and message in console.err


def test_an_address_never_means_another_input():
    """Where an id and a name hold dots, 1.2.x can be read in two ways: it is offered for neither but the one
    that it sets.
    """
    workflow = {
        "1": {"class_type": "A", "inputs": {"2.x": 5}, "_meta": {"title": "First"}},
        "1.2": {"class_type": "B", "inputs": {"x": 6}, "_meta": {"title": "Second"}},
    }
    addresses = {(i.node, i.name): i.address for i in settable(workflow)}
    assert addresses == {("1", "2.x"): "1.2.x", ("1.2", "x"): "Second.x"}
    for place, address in addresses.items():
        assert find_inputs(workflow, address) == [place]
