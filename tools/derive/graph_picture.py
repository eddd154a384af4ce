"""A picture of one shipped workflow on ComfyUI's own canvas, run on the demo model, for the README:
``nox -s workflows``, or ``python -m tools.derive.graph_picture``.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image

from ..hosting.browser import as_prompt, open_page, show, show_api
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import demo_twin, fill, load
from .ui_workflows import dressed

TARGET = Path(__file__).resolve().parents[2] / "docs" / "graph.png"
SEED = 3  # the demo's own
# The nodes by number, column by column: narrower than the shipped layout, so that text can be read.
COLUMNS = ((1, 2, 3), (4, 5), (6, 7, 8))
SIZES = {2: (400, 170), 3: (400, 130), 5: (330, 342), 8: (300, 350)}
GAP, TITLE, MARGIN, SCALE = 50, 34, 16, 0.9
QUEUE = """async () => {
    app.api.addEventListener('execution_success', () => { window.drawn = true; });
    await app.queuePrompt(0, 1);
}"""
# The whole graph at SCALE from the canvas's corner, and where it ends on the page.
PLACE = """([scale, left, top]) => {
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [left / scale, top / scale];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
    const nodes = app.graph._nodes, box = app.canvas.canvas.getBoundingClientRect();
    return [
        box.left + left, box.top + top,
        Math.max(...nodes.map((n) => n.pos[0] + n.size[0])) * scale,
        Math.max(...nodes.map((n) => n.pos[1] + n.size[1])) * scale,
    ];
}"""


def in_columns(ui: dict) -> dict:
    """The canvas form with its nodes placed by COLUMNS."""
    nodes, x = {node["id"]: node for node in ui["nodes"]}, 0
    for column in COLUMNS:
        y = TITLE
        for number in column:
            node = nodes[number]
            node["pos"], node["size"] = [x, y], list(SIZES.get(number, node["size"]))
            y += node["size"][1] + GAP
        x += max(nodes[number]["size"][0] for number in column) + GAP
    return ui


def main() -> None:
    api = demo_twin(fill(load("style_aligned_prompts"), seed=SEED))
    for node in api.values():
        node["_meta"].pop("note", None)
        if node["class_type"] == "ZSAMB_LoadDemoModel":
            node["_meta"]["title"] = "Load Demo Model"
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url, 1900, 1000) as page,
    ):
        show_api(page, api)
        ui = as_prompt(page)["workflow"]
        dressed(api, ui)
        show(page, in_columns(ui))
        page.evaluate(QUEUE)
        page.wait_for_function("() => window.drawn", timeout=300_000)
        page.wait_for_timeout(1500)
        left, top, width, height = page.evaluate(PLACE, [SCALE, 240, 150])
        page.wait_for_timeout(1500)  # pictures and text boxes find their place
        clip = {
            "x": left - MARGIN,
            "y": top - MARGIN,
            "width": width + 2 * MARGIN,
            "height": height + 2 * MARGIN,
        }
        shot = page.screenshot(clip=clip)
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
