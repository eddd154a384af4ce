"""Derive the subgraph blueprints, ``subgraphs/*.json``, from parts of the workflows: ``nox -s workflows``.

ComfyUI lists them among the nodes by their names. Its own front end makes each from nodes of a workflow.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..hosting.browser import open_page, show_api
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import load

FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
CATEGORY = "style/Z-SAMB"


@dataclass(frozen=True)
class Blueprint:
    """``nodes`` of a workflow; ``widgets`` (node, widget) that are shown on the outside, beside the texts and
    seeds that the front end shows by itself.
    """

    name: str
    workflow: str
    nodes: tuple[int, ...]
    widgets: tuple[tuple[int, str], ...]
    about: str


BLUEPRINTS = [
    Blueprint(
        "Style Reference from a Picture", "style_aligned_reference", (10, 11, 12, 13),
        ((10, "width"), (10, "height"), (13, "steps"), (13, "cfg"), (13, "refinements")),
        "A picture, scaled to the size of the set and inverted: a reference for SharedAttention Patch.",
    ),
    Blueprint(
        "InstantStyle from a Picture", "instantstyle", (8, 9, 11),
        ((8, "file"), (9, "clip_name"), (11, "weight"), (11, "preset")),
        "An IP-Adapter, its image encoder and StyleBlockIPAdapter: a model that draws in a picture's style.",
    ),
    Blueprint(
        "Style-Aligned Set", "style_aligned_prompts", (2, 3, 4, 5, 6, 7),
        ((2, "prompts"), (2, "style"), (4, "width"), (4, "height"), (5, "strength"), (6, "steps"),
         (6, "cfg")),
        "One picture per line of text, all in one style: from a checkpoint's model, CLIP and VAE.",
    ),
]  # fmt: skip
MAKE = """({nodes, widgets, name}) => {
    const graph = app.graph;
    const {node, subgraph} = graph.convertToSubgraph(new Set(nodes.map((id) => graph.getNodeById(id))));
    node.title = subgraph.name = name;
    node.pos = [0, 0];
    for (const other of [...graph._nodes]) if (other !== node) graph.remove(other);
    node.properties.proxyWidgets = widgets.map(([id, widget]) => [String(id), widget]);
    return JSON.parse(JSON.stringify(graph.serialize()));
}"""


def made(page, blueprint: Blueprint) -> dict:
    show_api(page, load(blueprint.workflow))
    page.wait_for_timeout(300)
    arguments = {"nodes": blueprint.nodes, "widgets": blueprint.widgets, "name": blueprint.name}
    graph = page.evaluate(MAKE, arguments)
    (subgraph,) = graph["definitions"]["subgraphs"]
    graph["nodes"][0]["widgets_values"] = []  # the nodes within have them
    subgraph |= {"category": CATEGORY, "description": blueprint.about}
    return {
        key: graph[key] for key in ("revision", "last_node_id", "last_link_id", "nodes", "links", "version")
    } | {
        "definitions": {"subgraphs": [subgraph]},
        "extra": {},
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url) as page,
    ):
        for blueprint in BLUEPRINTS:
            graph = made(page, blueprint)
            (FOLDER / f"{blueprint.name}.json").write_text(json.dumps(graph, indent=1) + "\n")
            print(f"subgraphs/{blueprint.name}.json")


if __name__ == "__main__":
    main()
