"""Places on the canvas by step: groups from left to right, in each the columns of a layout file.

``layouts/NAME.json`` is a list of ``{"title", "columns"}``, where a column lists numbers of nodes.
A node's note stands above it, or beneath it for the numbers in ``"notes_beneath"``. ``"room"`` has px left
free above a node, by its number, for wires that pass there.
"""

import json
import math
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("layouts")
GAP, PAD, HEAD = 40, 24, 60
TITLE = 34  # a node's title stands above its place
WIDTH = 320  # of nodes and notes, at least
PAGE, CORNER = 1900, (90, 110)  # px of a usual page, and where a graph's corner is on it as it opens
SCALES = (0.65, 0.8)  # how far out and in it opens; below .6 ComfyUI draws no text
COLOR = "#8aa"


def groups_of(name: str) -> list[dict[str, Any]]:
    """The groups of a workflow."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def view_of(width: int) -> dict[str, Any]:
    """How a graph that is so wide opens: whole if it can be read then, else from its first step on."""
    scale = round(min(max((PAGE - 2 * CORNER[0]) / width, SCALES[0]), SCALES[1]), 2)
    return {"scale": scale, "offset": [side / scale for side in CORNER]}


def place(ui: dict, notes: dict[int, dict], layout: list[dict[str, Any]]) -> None:
    """Give nodes and notes their places, and the canvas its groups and the view it opens with.

    ``notes``: by the number of the node that each is about.
    """
    nodes = {node["id"]: node for node in ui["nodes"]}
    x, groups = 0, []
    for number, group in enumerate(layout):
        left, top, bottom = x + PAD, math.inf, 0
        for column in group["columns"]:
            y, width = HEAD, max([WIDTH, *(nodes[key]["size"][0] for key in column)])
            top = min(top, group.get("room", {}).get(str(column[0]), 0))
            for key in column:
                y += group.get("room", {}).get(str(key), 0)
                for box in in_order(nodes[key], notes.get(key), key in group.get("notes_beneath", ())):
                    box["pos"] = [left, y + TITLE]
                    box["size"] = [width, box["size"][1]]
                    y += TITLE + box["size"][1] + GAP
            left, bottom = left + width + GAP, max(bottom, y)
        right = left - GAP + PAD
        groups.append({
            "id": number + 1, "title": group["title"],
            "bounding": [x, top, right - x, bottom - GAP + PAD - top],
            "color": COLOR, "font_size": 24, "flags": {},
        })  # fmt: skip
        x = right + GAP
    ui["groups"] = groups
    ui["extra"] = {"ds": view_of(x)}


def in_order(node: dict, note: dict | None, beneath: bool) -> list[dict]:
    """From top to bottom."""
    return [box for box in ((node, note) if beneath else (note, node)) if box is not None]
