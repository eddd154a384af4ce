"""Derive the UI form of every shipped workflow from its API form: ``nox -s workflows``.

The API file is the source; the UI file adds what a canvas needs: places, sizes, sockets, links and widget
order, read from the running host's own ``/object_info``.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from .host import find_host
from .server import Server
from .workflows import FOLDER, Workflow, load

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
MODELS = {
    "sd_xl_base_1.0.safetensors": {
        "name": "sd_xl_base_1.0.safetensors",
        "url": (
            "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"
        ),
        "directory": "checkpoints",
    }
}
COLUMN, ROW_GAP, LINE = 400, 60, 26


def inputs_of(info: dict) -> list[tuple[str, str, dict]]:
    """(name, type, options) of a node's inputs in the order that the host declares."""
    found = []
    for group in ("required", "optional"):
        declared = info["input"].get(group, {})
        for name in info["input_order"].get(group, []):
            kind, *options = declared[name]
            found.append((name, "COMBO" if isinstance(kind, list) else kind, options[0] if options else {}))
    return found


def depth_of(workflow: Workflow) -> dict[str, int]:
    """Longest way from a source, per node: the column it is drawn in."""
    depths: dict[str, int] = {}

    def visit(key: str) -> int:
        if key not in depths:
            links = [v[0] for v in workflow[key]["inputs"].values() if isinstance(v, list)]
            depths[key] = 1 + max(map(visit, links), default=-1)
        return depths[key]

    for key in workflow:
        visit(key)
    return depths


def widget_values(given: dict[str, Any], declared: list[tuple[str, str, dict]]) -> list[Any]:
    """Values in canvas order: what the front end stores, its own companion widgets among them."""
    values: list[Any] = []
    for name, kind, options in declared:
        if kind not in WIDGETS:
            continue
        value = given.get(name)
        if value is None or isinstance(value, list):
            value = options.get("default", 1)
        values.append(value)
        if options.get("control_after_generate"):
            values.append("fixed")
        if options.get("image_upload"):
            values.append("image")
    return values


def to_ui(workflow: Workflow, object_info: dict) -> dict:
    """The canvas form of an API workflow."""
    nodes, links, rows = [], [], {}
    depths = depth_of(workflow)
    outputs: dict[str, list[dict]] = {}
    for key, node in workflow.items():
        info = object_info[node["class_type"]]
        outputs[key] = [
            {"name": name, "type": kind, "links": [], "slot_index": i}
            for i, (name, kind) in enumerate(zip(info["output_name"], info["output"], strict=True))
        ]
    for order, (key, node) in enumerate(
        sorted(workflow.items(), key=lambda item: (depths[item[0]], int(item[0])))
    ):
        declared = inputs_of(object_info[node["class_type"]])
        sockets = []
        for name, kind, _ in declared:
            value = node["inputs"].get(name)
            if kind in WIDGETS and not isinstance(value, list):
                continue
            socket = {"name": name, "type": kind, "link": None}
            if kind in WIDGETS:
                socket["widget"] = {"name": name}
            if isinstance(value, list):
                source, slot = value
                socket["link"] = len(links) + 1
                outputs[source][slot]["links"].append(len(links) + 1)
                links.append([len(links) + 1, int(source), slot, int(key), len(sockets), kind])
            sockets.append(socket)
        values = widget_values(node["inputs"], declared)
        tall = sum(3 if options.get("multiline") else 1 for _, kind, options in declared if kind in WIDGETS)
        picture = 10 if node["class_type"] in ("LoadImage", "SaveImage") else 0
        height = LINE * (max(len(sockets), len(outputs[key])) + tall + picture) + 20
        column = depths[key]
        top = rows.get(column, 0)
        rows[column] = top + height + ROW_GAP
        properties: dict[str, Any] = {"Node name for S&R": node["class_type"]}
        if node["class_type"].startswith("ZSAMB_"):
            properties["cnr_id"] = "z-samb"
        models = [MODELS[v] for v in values if isinstance(v, str) and v in MODELS]
        if models:
            properties["models"] = models
        nodes.append({
            "id": int(key), "type": node["class_type"], "pos": [column * COLUMN, top], "size": [COLUMN - 80,
            height], "flags": {}, "order": order, "mode": 0, "inputs": sockets, "outputs": outputs[key],
            "title": node["_meta"]["title"], "properties": properties, "widgets_values": values,
        })  # fmt: skip
    last = max(int(key) for key in workflow)
    return {
        "last_node_id": last, "last_link_id": len(links), "nodes": nodes, "links": links, "groups": [],
        "config": {}, "extra": {}, "version": 0.4,
    }  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        object_info = server.get("/object_info")
    for path in sorted(FOLDER.glob("*.json")):
        ui = to_ui(load(path.stem), object_info)
        (FOLDER.parent / path.name).write_text(json.dumps(ui, indent=1) + "\n")
        print(f"workflows/{path.name}: {len(ui['nodes'])} nodes")


if __name__ == "__main__":
    main()
