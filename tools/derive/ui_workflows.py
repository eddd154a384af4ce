"""Derive the UI form of every shipped workflow from its API form: ``nox -s workflows``.

The API file is the source. ComfyUI's own front end puts it onto the canvas and says how it stores it; this
adds places, colors, the notes that stand in ``_meta``, and where to get the model files.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from ..hosting.browser import as_prompt, open_page, show_api
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import FOLDER, Workflow, load
from . import layout

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
GAP, TOP, NOTE = 70, 60, (360, 190)
OURS, NOTES = ("#223344", "#2b4158"), ("#3d3a1e", "#4a4725")
# Nodes that grow a picture once they have run.
PICTURES = {"LoadImage": 260, "SaveImage": 300, "PreviewImage": 260, "LoadAudio": 120, "PreviewAny": 120}


def depth_of(workflow: Workflow) -> dict[str, int]:
    """Longest way from a source, per node: the column it is drawn in."""
    depths: dict[str, int] = {}

    def visit(key: str) -> int:
        if key not in depths:
            depths[key] = 1 + max((visit(source) for source, _ in links_of(workflow[key])), default=-1)
        return depths[key]

    for key in workflow:
        visit(key)
    # A loader stands before what it is for, and not all of them in one column.
    for key, node in workflow.items():
        users = [depths[k] for k, n in workflow.items() if any(source == key for source, _ in links_of(n))]
        if depths[key] == 0 and users and not node["class_type"].startswith("CheckpointLoader"):
            depths[key] = min(users) - 1
    return depths


def links_of(node: dict[str, Any]) -> list[list]:
    return [value for value in node["inputs"].values() if isinstance(value, list)]


def dressed(workflow: Workflow, ui: dict) -> dict:
    """The front end's canvas form with places, titles, colors, notes and model files."""
    depths = depth_of(workflow)
    columns: dict[int, list[dict]] = {}
    for node in sorted(ui["nodes"], key=lambda n: n["id"]):
        columns.setdefault(depths[str(node["id"])], []).append(node)
    notes, x = [], 0
    for column in sorted(columns):
        y = TOP
        for node in columns[column]:
            meta = workflow[str(node["id"])]["_meta"]
            dress(node, meta["title"])
            width, height = max(node["size"][0], 300), node["size"][1]
            height += PICTURES.get(node["type"], 0)
            node["size"] = [round(width), round(height)]
            if "note" in meta:
                notes.append(note(meta["note"], [x, y]))
                y += notes[-1]["size"][1] + 50
            node["pos"] = [x, y]
            y += node["size"][1] + GAP
        x += max(node["size"][0] for node in columns[column]) + GAP
    return with_notes({**ui, "groups": [], "extra": {}}, notes)


def with_notes(ui: dict, notes: list[dict]) -> dict:
    """The canvas form, its notes behind its nodes, with the groups and the view that it may have."""
    for i, entry in enumerate(notes):
        entry["id"] = ui["last_node_id"] + 1 + i
    return {
        "last_node_id": ui["last_node_id"] + len(notes), "last_link_id": ui["last_link_id"],
        "nodes": [*ui["nodes"], *notes], "links": ui["links"], "groups": ui["groups"], "config": {},
        "extra": ui["extra"], "version": 0.4,
    }  # fmt: skip


def laid_out(workflow: Workflow, ui: dict, groups: list[dict[str, Any]]) -> dict:
    """As `dressed`, with the places of a layout file."""
    notes = {}
    for node in ui["nodes"]:
        meta = workflow[str(node["id"])]["_meta"]
        dress(node, meta["title"])
        if node["type"] == "PreviewImage":
            node["size"] = list(layout.RESULT if "result" in meta else layout.PICTURE)
        if node["type"] == "CLIPTextEncode":
            node["size"] = list(layout.TEXT)
        if "note" in meta:
            notes[node["id"]] = note(meta["note"], [0, 0])
            notes[node["id"]]["size"][1] = layout.height_of_note(meta["note"])
    layout.place(ui, notes, groups)
    return with_notes(ui, list(notes.values()))


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


def note(text: str, place: list[int]) -> dict:
    lines = sum(1 + len(line) // 52 for line in text.splitlines())
    return {
        "type": "MarkdownNote", "pos": place, "size": [NOTE[0], max(NOTE[1], 30 + 24 * lines)], "flags": {},
        "order": 0, "mode": 0, "inputs": [], "outputs": [], "title": "Note", "properties": {},
        "widgets_values": [text], "color": NOTES[0], "bgcolor": NOTES[1],
    }  # fmt: skip


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url) as page,
    ):
        for path in sorted(FOLDER.glob("*.json")):
            show_api(page, load(path.stem))
            api, ui = load(path.stem), as_prompt(page)["workflow"]
            groups = layout.groups_of(path.stem)
            ui = laid_out(api, ui, groups) if groups else dressed(api, ui)
            (FOLDER.parent / path.name).write_text(json.dumps(ui, indent=1) + "\n")
            print(f"workflows/{path.name}: {len(ui['nodes'])} nodes")


if __name__ == "__main__":
    main()
