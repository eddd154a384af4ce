"""Derive the UI form of every shipped workflow from its API form: ``nox -s workflows``,
or ``python -m tools.derive.ui_workflows NAME ...`` for some.

The API file is the source. ComfyUI's own front end puts it onto the canvas and says how it stores it; this
adds places, colors, the notes that stand in ``_meta``, and where to get the model files. Nodes are as tall
as in the taller of its two node styles, so that nothing overlaps in either.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from ..hosting.browser import as_prompt, nodes_2, open_page, show, show_api
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import FOLDER, Workflow, load
from . import layout
from .titles import title_of

HUB = "https://huggingface.co"
FILES = {
    "sd_xl_base_1.0.safetensors": ("checkpoints", "stabilityai/stable-diffusion-xl-base-1.0", ""),
    "control-lora-canny-rank256.safetensors": (
        "controlnet", "stabilityai/control-lora", "control-LoRAs-rank256/"
    ),
    "control-lora-depth-rank256.safetensors": (
        "controlnet", "stabilityai/control-lora", "control-LoRAs-rank256/"
    ),
    "TTPLANET_Controlnet_Tile_realistic_v2_fp16.safetensors": (
        "controlnet", "TTPlanet/TTPLanet_SDXL_Controlnet_Tile_Realistic", ""
    ),
    "ip-adapter_sdxl_vit-h.safetensors": ("ipadapter", "h94/IP-Adapter", "sdxl_models/"),
    "ip-adapter_sdxl.safetensors": ("ipadapter", "h94/IP-Adapter", "sdxl_models/"),
    "clip_vision_h.safetensors": (
        "clip_vision", "Comfy-Org/Wan_2.1_ComfyUI_repackaged", "split_files/clip_vision/"
    ),
    "clip_vision_g.safetensors": ("clip_vision", "comfyanonymous/clip_vision_g", ""),
    "depth_anything_3_mono_large.safetensors": (
        "geometry_estimation", "Comfy-Org/Depth-Anything-3", "geometry_estimation/"
    ),
}  # fmt: skip
OURS, NOTES = ("#223344", "#2b4158"), ("#3d3a1e", "#4a4725")
RESULT, PICTURE = (420, 440), (320, 260)  # nodes that show what was drawn, and pictures on the way
SIZES = {
    "SaveImage": RESULT, "PreviewImage": PICTURE, "LoadImage": (320, 340), "CLIPTextEncode": (320, 110),
    "PreviewAny": (320, 200),
}  # fmt: skip
# Nodes that grow a picture beneath their inputs when they run.
SHOWS = {
    "ZSAMB_DINOStyleScore": 200, "ZSAMB_CLIPScore": 200, "ZSAMB_MultiRefBlend": 260,
    "ZSAMB_LoadStyleReference": 220, "ZSAMB_ContactSheet": 400, "ZSAMB_AttentionPicture": 400,
}  # fmt: skip
# In Nodes 2.0: the px that each node takes, without its title; of a note, those of its text.
HEIGHTS = """() => Object.fromEntries(app.graph._nodes.map((node) => {
    const box = document.querySelector(`[data-node-id="${node.id}"]`);
    const text = box.querySelector('.comfy-markdown-content');
    const { top, bottom } = box.getBoundingClientRect();
    const end = text ? text.lastElementChild.getBoundingClientRect().bottom : bottom;
    return [node.id, Math.ceil((end - top) / app.canvas.ds.scale) - LiteGraph.NODE_TITLE_HEIGHT];
}))"""
NOTE_END = 18  # px below a note's text


def dressed(workflow: Workflow, ui: dict) -> dict[int, dict]:
    """Give the front end's nodes titles, colors, sizes and model files. Return the notes by the number of the
    node that each is about.
    """
    notes = {}
    for node in ui["nodes"]:
        inputs, meta = workflow[str(node["id"])]["inputs"], workflow[str(node["id"])]["_meta"]
        dress(node, meta["title"])
        width, height = RESULT if "result" in meta else SIZES.get(node["type"], node["size"])
        if inputs.get("method") != "attention":  # whose blend is no picture
            height += SHOWS.get(node["type"], 0)
        node["size"] = [round(width), round(height)]
        if "note" in meta:
            notes[node["id"]] = note(meta["note"])
    return notes


def laid_out(ui: dict, notes: dict[int, dict], groups: list[dict[str, Any]]) -> dict:
    """The canvas form, its notes behind its nodes, in the places of a layout file."""
    layout.place(ui, notes, groups)
    for i, entry in enumerate(notes.values()):
        entry["id"] = ui["last_node_id"] + 1 + i
    return {
        "last_node_id": ui["last_node_id"] + len(notes), "last_link_id": ui["last_link_id"],
        "nodes": [*ui["nodes"], *notes.values()], "links": ui["links"], "groups": ui["groups"], "config": {},
        "extra": ui["extra"], "version": 0.4,
    }  # fmt: skip


def grow(page, ui: dict) -> None:
    """Make nodes as tall as Nodes 2.0 draws them, and notes as their texts. ``page`` has that style."""
    show(page, ui)
    page.evaluate("() => { app.canvas.ds.scale = 1; app.canvas.setDirty(true, true); }")  # whole px
    page.wait_for_timeout(1000)
    heights = page.evaluate(HEIGHTS)
    for node in ui["nodes"]:
        height = heights[str(node["id"])]
        is_note = node["type"] == "MarkdownNote"
        node["size"][1] = height + NOTE_END if is_note else max(height, node["size"][1])


def dress(node: dict, title: str) -> None:
    node["title"] = title
    properties = {"Node name for S&R": node["type"]}
    if node["type"].startswith("ZSAMB_"):
        properties["cnr_id"] = "z-samb"
        node["color"], node["bgcolor"] = OURS
    values = node.get("widgets_values") or []
    models = [
        {"name": v, "url": f"{HUB}/{FILES[v][1]}/resolve/main/{FILES[v][2]}{v}", "directory": FILES[v][0]}
        for v in values
        if isinstance(v, str) and v in FILES
    ]
    if models:
        properties["models"] = models
    node["properties"] = properties
    # The same seed for everyone, so that all see what the notes speak of.
    node["widgets_values"] = ["fixed" if v == "randomize" else v for v in values]


def note(text: str) -> dict:
    return {
        "type": "MarkdownNote", "pos": [0, 0], "size": [layout.WIDTH, 100], "flags": {},
        "order": 0, "mode": 0, "inputs": [], "outputs": [], "title": "Note", "properties": {},
        "widgets_values": [text], "color": NOTES[0], "bgcolor": NOTES[1],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.derive.ui_workflows", description=__doc__)
    parser.add_argument("names", nargs="*", help="of API files; without, all", metavar="NAME")
    names = parser.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.json"))
    drafts = {}
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url) as page,
    ):
        for name in names:
            api = load(name)
            show_api(page, api)
            ui = as_prompt(page)["workflow"]
            drafts[name] = ui, dressed(api, ui), layout.groups_of(name)
        nodes_2(page, True)
        for name, draft in drafts.items():
            grow(page, laid_out(*draft))
            ui = laid_out(*draft)
            target = FOLDER.parent / f"{title_of(name)}.json"
            target.write_text(json.dumps(ui) + "\n")  # in one line: the archive is to be small
            print(f"workflows/{target.name}: {len(ui['nodes'])} nodes")


if __name__ == "__main__":
    main()
