"""Places on the canvas by step: groups from left to right, in each the columns of a layout file.

``layouts/NAME.json`` is a list of ``{"title", "columns"}``, where a column lists numbers of nodes.
A node's note stands above it.
"""

import json
import math
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("layouts")
GAP, PAD, HEAD = 40, 24, 60
TITLE = 34  # a node's title stands above its place
WIDTH = 320  # of nodes and notes, at least
RESULT, PICTURE, TEXT = (320, 340), (320, 220), (320, 110)  # nodes that show a set, a picture, a text
SCALE, CORNER = 0.75, (90, 110)  # how the graph opens: at which zoom, and where its corner is on the page
COLOR = "#8aa"
# Letters of a line, and px of one: what the page draws of a note.
LETTERS, LINE, HEADING = 56, 16, 34


def groups_of(name: str) -> list[dict[str, Any]] | None:
    """The groups of a workflow, or None where it has no layout file."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def height_of_note(text: str) -> int:
    """px that the text of a note takes."""
    lines = [line for line in text.splitlines() if line]
    rows = sum(math.ceil(len(line) / LETTERS) for line in lines if not line.startswith("#"))
    return rows * LINE + sum(HEADING for line in lines if line.startswith("#")) + 10 * len(lines) + 20


def place(ui: dict, notes: dict[int, dict], layout: list[dict[str, Any]]) -> None:
    """Give nodes and notes their places, and the canvas its groups and the view it opens with.

    ``notes``: by the number of the node that each is about.
    """
    nodes = {node["id"]: node for node in ui["nodes"]}
    x, groups = 0, []
    for number, group in enumerate(layout):
        left, bottom = x + PAD, 0
        for column in group["columns"]:
            y, width = HEAD, WIDTH
            for key in column:
                width = max(width, nodes[key]["size"][0])
            for key in column:
                for box in filter(None, (notes.get(key), nodes[key])):
                    box["pos"] = [left, y + TITLE]
                    box["size"] = [width, box["size"][1]]
                    y += TITLE + box["size"][1] + GAP
            left, bottom = left + width + GAP, max(bottom, y)
        right = left - GAP + PAD
        groups.append({
            "id": number + 1, "title": group["title"], "bounding": [x, 0, right - x, bottom - GAP + PAD],
            "color": COLOR, "font_size": 24, "flags": {},
        })  # fmt: skip
        x = right + GAP
    ui["groups"] = groups
    ui["extra"] = {"ds": {"scale": SCALE, "offset": [CORNER[0] / SCALE, CORNER[1] / SCALE]}}
