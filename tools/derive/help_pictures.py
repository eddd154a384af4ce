"""Pictures of the nodes for their help pages, taken off ComfyUI's own canvas: ``nox -s workflows``.

Each node stands alone, as it is when it is added, so that a reader finds sockets and widgets again.
"""

import tempfile
from pathlib import Path

from ..hosting.browser import open_page
from ..hosting.host import find_host
from ..hosting.server import Server

HELP = Path(__file__).resolve().parents[2] / "web" / "docs"
MARGIN = 14
ALONE = """(kind) => {
    const last = app.graph.last_node_id;
    app.graph.clear();
    // The front end keeps widget values by node number: a number used again brings another node's values.
    app.graph.last_node_id = last + 1;
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    node.pos = [0, 0];
    node.size = [Math.max(node.size[0], 340), node.size[1]];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [180, 160];
    app.canvas.draw(true, true);
    const box = app.canvas.canvas.getBoundingClientRect();
    return {x: box.left + 180, y: box.top + 160 - 30, width: node.size[0], height: node.size[1] + 30};
}"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url, 1300, 1100) as page,
    ):
        (HELP / "pictures").mkdir(exist_ok=True)
        kinds = [kind for kind in page.request.get("/object_info").json() if kind.startswith("ZSAMB_")]
        for kind in kinds:
            box = page.evaluate(ALONE, kind)
            page.wait_for_timeout(500)
            page.evaluate("() => app.canvas.setDirty(true, true)")  # text boxes find their place then
            page.wait_for_timeout(500)
            clip = {
                "x": box["x"] - MARGIN,
                "y": box["y"] - 2,
                "width": box["width"] + 2 * MARGIN,
                "height": box["height"] + MARGIN,
            }
            page.screenshot(path=HELP / "pictures" / f"{kind}.png", clip=clip)
        print(f"{len(kinds)} pictures in {HELP / 'pictures'}")


if __name__ == "__main__":
    main()
