"""``zsamb inputs``: which inputs of a workflow can be set."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..console import WRONG, say, show
from ..texts import plain
from .workflow import Workflow, WorkflowError, find_inputs, picture_inputs, read_workflow, title

LONGEST = 60  # characters of a value


@dataclass(frozen=True)
class Input:
    """An input of a node. ``address``: how --set takes it, empty where no address is this one's alone."""

    node: str
    name: str
    address: str
    value: Any
    is_picture: bool  # whether --image sends a file for it

    @property
    def type(self) -> str:
        """JSON's name of the value's type, which a new value must have too."""
        names = {bool: "boolean", str: "string", dict: "object", type(None): "null"}
        return names.get(type(self.value), "number")


def settable(workflow: Workflow) -> Iterator[Input]:
    """The inputs with a value, node by node as the file has them; those that come from another node are
    none.
    """
    pictures = picture_inputs(workflow)
    for node, entry in workflow.items():
        for name, value in entry["inputs"].items():
            if not isinstance(value, list):
                address = _address(workflow, node, name)
                yield Input(node, name, address, value, (node, name) in pictures)


def _address(workflow: Workflow, node: str, name: str) -> str:
    # Ids and names may hold dots themselves, and then mean another input than this one.
    for address in (f"{node}.{name}", f"{title(workflow, node)}.{name}"):
        try:
            if find_inputs(workflow, address) == [(node, name)]:
                return address
        except WorkflowError:
            pass
    return ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "List the inputs of a workflow that can be set, node by node. Each line has the name that zsamb run"
        "\n--set takes, the type in JSON's words, and the value now. Needs no server."
    )
    parser.add_argument(
        "workflow", metavar="WORKFLOW", type=Path, help="a .json file in ComfyUI's API format"
    )


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        workflow = read_workflow(options.workflow)
    except WorkflowError as error:
        say(f"zsamb inputs: {error}")
        return WRONG
    inputs = list(settable(workflow))
    lines = []
    for node, group in groupby(inputs, lambda item: item.node):
        lines.append(f"node {node}: {title(workflow, node)}, class {workflow[node]['class_type']}")
        items = list(group)
        widest = max(len(item.address) for item in items)
        for item in items:
            value = json.dumps(item.value, ensure_ascii=False)
            value = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
            sent = f"  (a picture: --image {node}=FILE sends one)" if item.is_picture else ""
            name = item.address or f"({item.name}: no name is this input's alone)"
            lines.append(f"  {name:{widest}}  {item.type:7}  {value}{sent}")
    show([plain(line, 1000) for line in lines])
    if inputs:
        say(
            "Set one with zsamb run --set NAME=VALUE. The node's title can stand for its id, if no other node"
            " has it. An input's name alone sets it in every node that has it."
        )
    else:
        say("No input of this workflow can be set: each comes from another node.")
    return 0
