"""Wires that run behind boxes, counted for every graph: ``python -m tools.derive.wires``.

By the places and sizes in the files of ``workflows``, and the way ComfyUI's canvas draws a wire: a cubic
curve whose ends are level, each control point a quarter of the distance away.
"""

import json
import math
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TITLE, ROW, SOCKET = 30, 20, 14  # px: a node's title, a row of sockets, and the first socket's height
REACH = 0.25  # of a wire's length, from its end to the control point
STEPS = 60  # points of a wire that are looked at

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def box(node: dict[str, Any]) -> Box:
    """(left, top, right, bottom) in px of the canvas, with the title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def output_at(node: dict[str, Any], slot: int) -> Point:
    return node["pos"][0] + node["size"][0], node["pos"][1] + SOCKET + slot * ROW


def input_at(node: dict[str, Any], slot: int) -> Point:
    """A widget's socket is beside the widget: here, in the middle below the other sockets."""
    (x, top), plain = node["pos"], [i for i, one in enumerate(node["inputs"]) if not one.get("widget")]
    if slot in plain:
        return x, top + SOCKET + plain.index(slot) * ROW
    first = ROW * max(len(plain), len(node["outputs"]))
    return x, top + (first + node["size"][1]) / 2


def curve(start: Point, end: Point) -> list[Point]:
    """Points of a wire, evenly along the curve's parameter."""
    reach = REACH * math.dist(start, end)
    xs = start[0], start[0] + reach, end[0] - reach, end[0]
    ys = start[1], start[1], end[1], end[1]

    def at(t: float, p: tuple[float, float, float, float]) -> float:
        u = 1 - t
        return u**3 * p[0] + 3 * u * u * t * p[1] + 3 * u * t * t * p[2] + t**3 * p[3]

    return [(at(i / STEPS, xs), at(i / STEPS, ys)) for i in range(STEPS + 1)]


def hidden(graph: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The wires of a canvas workflow that pass behind a node or note that is not at one of their ends:
    (title of the first node, of the last, titles of those between).
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    found = []
    for _, source, out, target, into, _ in graph["links"]:
        way = curve(output_at(nodes[source], out), input_at(nodes[target], into))
        over = [
            node["title"]
            for key, node in nodes.items()
            if key not in (source, target) and any(inside(point, box(node)) for point in way)
        ]
        if over:
            found.append((nodes[source]["title"], nodes[target]["title"], over))
    return found


def inside(point: Point, area: Box) -> bool:
    return area[0] < point[0] < area[2] and area[1] < point[1] < area[3]


def main() -> None:
    for path in sorted(FOLDER.glob("*.json")):
        graph = json.loads(path.read_text(encoding="utf-8"))
        print(f"{len(hidden(graph)):3} of {len(graph['links']):3} wires behind a box: {path.stem}")


if __name__ == "__main__":
    main()
