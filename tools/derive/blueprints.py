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
    """``nodes`` of a workflow; ``shown``: (node, widget, label) of what can be set outside, in order."""

    name: str
    workflow: str
    nodes: tuple[int, ...]
    shown: tuple[tuple[int, str, str], ...]
    about: str


BLUEPRINTS = [
    Blueprint(
        "Style Reference from a Picture", "style_aligned_reference", (10, 11, 12, 13),
        ((12, "text", "What the picture shows"), (10, "width", "Width of the set"),
         (10, "height", "Height of the set"), (13, "steps", "Inversion steps"), (13, "cfg", "Inversion CFG"),
         (13, "refinements", "Refinements")),
        "A picture, scaled to the size of the set and inverted: a reference for SharedAttention Patch.",
    ),
    Blueprint(
        "InstantStyle from a Picture", "instantstyle", (8, 9, 11),
        ((11, "weight", "Weight of the style"), (11, "preset", "Blocks"), (8, "file", "IP-Adapter"),
         (9, "clip_name", "Image encoder")),
        "An IP-Adapter, its image encoder and StyleBlockIPAdapter: a model that draws in a picture's style.",
    ),
    Blueprint(
        "Style-Aligned Set", "style_aligned_prompts", (2, 3, 4, 5, 6, 7),
        ((2, "prompts", "Prompts, one per line"), (2, "style", "Style, behind every line"),
         (5, "strength", "Strength of the style"), (4, "width", "Width"), (4, "height", "Height"),
         (6, "seed", "Seed"), (6, "steps", "Steps"), (6, "cfg", "CFG"), (3, "text", "Negative prompt")),
        "One picture per line of text, all in one style: from a checkpoint's model, CLIP and VAE.",
    ),
]  # fmt: skip
# The front end shows texts and seeds by itself, in the order of the nodes: those go, and ours come.
MAKE = """({nodes, shown, name}) => {
    const graph = app.graph;
    const {node, subgraph} = graph.convertToSubgraph(new Set(nodes.map((id) => graph.getNodeById(id))));
    const is_widget = (id) => {
        const link = subgraph.getLink(id);
        return Boolean(subgraph.getNodeById(link.target_id).inputs[link.target_slot].widget);
    };
    for (const input of [...subgraph.inputs]) if (input.linkIds.every(is_widget)) subgraph.removeInput(input);
    for (const [id, widget, label] of shown) {
        const inner = subgraph.getNodeById(id);
        const slot = inner.inputs.find((input) => input.widget?.name === widget);
        subgraph.addInput(label, slot.type).connect(slot, inner);
    }
    node.title = subgraph.name = name;
    node.pos = [0, 0];
    for (const other of [...graph._nodes]) if (other !== node) graph.remove(other);
    node.setSize([320, node.computeSize()[1] + 80]);  // four lines of prompts
    return JSON.parse(JSON.stringify(graph.serialize()));
}"""


def made(page, blueprint: Blueprint) -> dict:
    show_api(page, load(blueprint.workflow))
    page.wait_for_timeout(300)
    arguments = {"nodes": blueprint.nodes, "shown": blueprint.shown, "name": blueprint.name}
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
