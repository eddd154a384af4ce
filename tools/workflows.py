"""The shipped API workflows, filled in: prompts, seed, reference, strength; and their demo-model twins."""

import copy
import json
from pathlib import Path
from typing import Any

Workflow = dict[str, dict[str, Any]]
FOLDER = Path(__file__).resolve().parents[1] / "workflows" / "api"


def load(name: str) -> Workflow:
    return json.loads((FOLDER / f"{name}.json").read_text())


def demo_twin(workflow: Workflow) -> Workflow:
    """The same graph on the embedded demo model: another loader node, 128 pixels where SDXL draws 1024."""
    twin = copy.deepcopy(workflow)
    for node in twin.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node.update(class_type="ZSAMB_LoadDemoModel", inputs={})
        for side in ("width", "height"):
            if node["inputs"].get(side) == 1024:
                node["inputs"][side] = 128
    return twin


def fill(workflow: Workflow, **values: Any) -> Workflow:
    """Set an input wherever a node has it as a value, not as a link. Raises KeyError for an input that no
    node has.
    """
    filled = copy.deepcopy(workflow)
    for key, value in values.items():
        nodes = [n for n in filled.values() if key in n["inputs"] and not isinstance(n["inputs"][key], list)]
        if not nodes:
            raise KeyError(f"no node of the workflow has an input {key!r}")
        for node in nodes:
            node["inputs"][key] = value
    return filled


def set_titled(workflow: Workflow, title: str, **values: Any) -> Workflow:
    """Set inputs of the one node with this title."""
    filled = copy.deepcopy(workflow)
    (node,) = [n for n in filled.values() if n["_meta"]["title"] == title]
    node["inputs"].update(values)
    return filled
