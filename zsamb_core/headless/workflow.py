"""Workflows in ComfyUI's API format: read, and given other inputs.

A workflow is a dict of nodes by id, each with ``class_type``, ``inputs`` (name to value, or to a link
``[node id, output]``) and, mostly, a title in ``_meta``.
"""

import copy
import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..messages import quoted
from ..texts import read_json

Workflow = dict[str, dict[str, Any]]


class WorkflowError(ValueError):
    """Not a workflow in the API format, or no such input in it, or a value of another kind."""


def read_workflow(path: Path) -> Workflow:
    """Read a workflow from a .json file. Raises WorkflowError for what is not one in the API format."""
    try:
        nodes = read_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WorkflowError(
            f"{path}: not a JSON file that can be read ({error}). Expected a workflow in the API format."
        ) from error
    if isinstance(nodes, dict) and isinstance(nodes.get("nodes"), list):
        raise WorkflowError(
            f"{path}: a workflow as the canvas saves it, expected one in the API format. Open it in ComfyUI"
            " and export it with File > Export (API)."
        )
    if not isinstance(nodes, dict) or not nodes:
        raise WorkflowError(f"{path}: found {_kind(nodes)}, expected an object of nodes by id (API format).")
    for key, node in nodes.items():
        if (
            not isinstance(node, dict)
            or not isinstance(node.get("class_type"), str)
            or not isinstance(node.get("inputs"), dict)
        ):
            raise WorkflowError(
                f"{path}: node {key!r} lacks class_type or inputs, expected a workflow in the API format"
                " (File > Export (API))."
            )
    return nodes


def title(workflow: Workflow, node: str) -> str:
    """A node's title, or its class where it has none. ``node`` may be one that another node made while it
    ran ("5.0.0.1"): then the title of the one that made it.
    """
    entry = workflow.get(node) or workflow.get(node.partition(".")[0])
    if entry is None:
        return f"node {node}"
    return _given_title(entry) or str(entry["class_type"])


def fill(workflow: Workflow, **values: Any) -> Workflow:
    """Set an input wherever a node has it as a value, not as a link. Raises KeyError for an input that no
    node has.
    """
    filled = copy.deepcopy(workflow)
    for key, value in values.items():
        nodes = _holders(filled, key)
        if not nodes:
            raise KeyError(f"no node of the workflow has an input {key!r}")
        for node in nodes:
            filled[node]["inputs"][key] = value
    return filled


def set_titled(workflow: Workflow, title: str, **values: Any) -> Workflow:
    """Set inputs of the one node with this title."""
    filled = copy.deepcopy(workflow)
    (node,) = [n for n in filled.values() if n["_meta"]["title"] == title]
    node["inputs"].update(values)
    return filled


def set_input(workflow: Workflow, address: str, value: Any) -> Workflow:
    """A copy with an input set. ``address`` is ``id.input``, ``title.input``, or an input's name alone,
    which sets it in every node that has it as a value.

    The value takes the kind of the one it replaces: text is read as a number or as true or false where
    those stand now, and a list of texts becomes lines. Raises WorkflowError for an address that fits no
    node, or more nodes of one title, for an input that comes from another node, and for a value of another
    kind.
    """
    changed = copy.deepcopy(workflow)
    for node, name in find_inputs(workflow, address):
        inputs = changed[node]["inputs"]
        inputs[name] = _as_before(address, inputs[name], value)
    return changed


def find_inputs(workflow: Workflow, address: str) -> list[tuple[str, str]]:
    """The (node id, input) that an address of ``set_input`` means. Raises WorkflowError for none."""
    for i, sign in enumerate(address):
        # Titles and inputs may hold dots themselves, so each dot may be the one between.
        if sign == "." and (nodes := _named(workflow, address[:i])):
            return [(_only(nodes, address[:i]), _value_of(workflow, nodes[0], address[i + 1 :]))]
    if holders := _holders(workflow, address):
        return [(node, address) for node in holders]
    linked = [node for node, entry in workflow.items() if address in entry["inputs"]]
    if linked:
        raise WorkflowError(
            f"{address}: in every node that has this input it comes from another node"
            f" ({_list(f'{n}.{address}' for n in linked)}); set the input of the node that it comes from."
        )
    if "." in address:
        raise WorkflowError(
            f"{address}: no node of the workflow has the id or title"
            f" {address.rpartition('.')[0]!r}; there are"
            f" {_list(f'{n} ({title(workflow, n)})' for n in workflow)}."
        )
    values = {
        name for n in workflow.values() for name, value in n["inputs"].items() if not isinstance(value, list)
    }
    raise WorkflowError(
        f"{address}: no node of the workflow has an input of this name.{_meant(address, values)} Give an"
        " input's name, id.input or title.input."
    )


def picture_inputs(workflow: Workflow) -> list[tuple[str, str]]:
    """The (node id, input) that take a picture file by name."""
    nodes = _holders(workflow, "image")
    return [(n, "image") for n in nodes if isinstance(workflow[n]["inputs"]["image"], str)]


def find_picture_input(workflow: Workflow, node: str) -> str:
    """The id of the node with this id or title, whose input ``image`` takes a file. Raises WorkflowError
    for a node that there is not, or that takes no file.
    """
    takers = [n for n, _ in picture_inputs(workflow)]
    choice = f"Nodes that take a picture file: {_list(f'{n} ({title(workflow, n)})' for n in takers)}."
    named = _named(workflow, node)
    if not named:
        raise WorkflowError(f"{node}: no node of the workflow has this id or title. {choice}")
    taker = _only(named, node)
    if taker not in takers:
        raise WorkflowError(f"{node}: this node ({title(workflow, taker)}) takes no picture file. {choice}")
    return taker


def check_inputs(
    workflow: Workflow, inputs: Iterable[tuple[str, str]], info: dict[str, dict[str, Any] | None]
) -> list[str]:
    """What a server would refuse: nodes of a class that it lacks, and numbers and choices among ``inputs``,
    (node id, input), outside of what it allows. ``info`` is what it says of each class, None for none.
    """
    wrong = [
        f"node {key} ({title(workflow, key)}): the server has no class {node['class_type']!r}; is the node"
        " pack that brings it installed there?"
        for key, node in workflow.items()
        if info[node["class_type"]] is None
    ]
    for key, name in inputs:
        value = workflow[key]["inputs"][name]
        for spec in _specs(info[workflow[key]["class_type"]], name):
            if expected := _outside(value, spec):
                wrong.append(f"{name} of node {key} ({title(workflow, key)}) is {quoted(value)}, {expected}")
    return wrong


def _specs(about: dict[str, Any] | None, name: str) -> list[list[Any]]:
    """What a server says of an input: [kind or choices, options]. Inputs that a node grows as it needs them
    are not listed under their own names; and what is said in another form than ComfyUI's cannot be checked.
    """
    groups = about.get("input") if about else None
    entries = (
        [g.get(name) for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
    )
    return [spec for spec in entries if isinstance(spec, list) and spec]


def _outside(value: Any, spec: Sequence[Any]) -> str:
    """What the host expects in place of a value, or nothing; ``spec`` is (kind or choices, options)."""
    kind, options = spec[0], (spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {})
    if kind in ("INT", "FLOAT") and isinstance(value, int | float):
        if kind == "INT" and not isinstance(value, int):
            return "expected a whole number"
        least, most = (options.get(end) for end in ("min", "max"))
        if isinstance(least, int | float) and value < least:
            return f"expected at least {least}"
        return f"expected at most {most}" if isinstance(most, int | float) and value > most else ""
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    # The host takes files from subfolders and other folders too, which it does not list.
    free = options.get("image_upload") and any(sign in str(value) for sign in "/\\[")
    if not isinstance(choices, list) or value in choices or free:
        return ""
    # Nor does it hold what comes from elsewhere to the list.
    if options.get("remote") or options.get("multiselect"):
        return ""
    if options.get("image_upload"):
        return "which is no file in the server's input folder; send one"
    more = f" and {len(choices) - 20} more" if len(choices) > 20 else ""
    return f"expected one of {_list(map(str, choices[:20]))}{more}" if choices else "and the server has none"


def _holders(workflow: Workflow, name: str) -> list[str]:
    return [
        key
        for key, node in workflow.items()
        if name in node["inputs"] and not isinstance(node["inputs"][name], list)
    ]


def _named(workflow: Workflow, name: str) -> list[str]:
    if name in workflow:
        return [name]
    return [key for key, node in workflow.items() if name and _given_title(node) == name]


def _given_title(node: dict[str, Any]) -> str:
    meta = node.get("_meta")
    name = meta.get("title") if isinstance(meta, dict) else None
    return name if isinstance(name, str) else ""


def _only(nodes: list[str], name: str) -> str:
    if len(nodes) > 1:
        raise WorkflowError(f"{name}: nodes {_list(nodes)} all have this title; give the id of one instead.")
    return nodes[0]


def _value_of(workflow: Workflow, node: str, name: str) -> str:
    inputs = workflow[node]["inputs"]
    label = f"node {node} ({title(workflow, node)})"
    if name not in inputs:
        raise WorkflowError(
            f"{label} has no input {name!r}.{_meant(name, inputs)} It has {_list(inputs) or 'none'}."
        )
    if isinstance(inputs[name], list):
        source = str((inputs[name] or ["?"])[0])
        raise WorkflowError(
            f"{label}: its input {name!r} comes from node {source} ({title(workflow, source)}); set an input"
            " of that one."
        )
    return name


def _as_before(address: str, before: Any, value: Any) -> Any:
    """``value`` as the kind of thing that stood there before."""
    if isinstance(before, bool):
        words = {"true": True, "false": False}
        if isinstance(value, str) and value.strip().lower() in words:
            return words[value.strip().lower()]
        if isinstance(value, bool):
            return value
        raise WorkflowError(f"{address} is {quoted(value)}, expected true or false.")
    if isinstance(before, int | float):
        number = _number(value)
        if number is None:
            raise WorkflowError(f"{address} is {quoted(value)}, expected a number such as {quoted(before)}.")
        return number
    if isinstance(before, str):
        if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        if isinstance(value, str):
            return value
        raise WorkflowError(
            f"{address} is {quoted(value)} ({_kind(value)}), expected text such as {quoted(before)}."
        )
    if value is None or isinstance(value, list):  # a list would be read as a link
        raise WorkflowError(
            f"{address} is {quoted(value)} ({_kind(value)}), expected something like {quoted(before)}."
        )
    return value


def _number(value: Any) -> int | float | None:
    if isinstance(value, str):
        value = _read_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # No server has room for more than 64 bits, nor isfinite() for any whole number.
    fits = -(2**63) <= value < 2**64 if isinstance(value, int) else math.isfinite(value)
    return value if fits else None


def _read_number(text: str) -> int | float | None:
    try:
        return int(text)  # not by way of float, which has no room for a seed's 64 bits
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    # Spreadsheets write whole numbers as 5.0 and 1E+9.
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _meant(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
