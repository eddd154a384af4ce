"""The shipped API workflows, and their demo-model twins. ``fill`` and ``set_titled`` set inputs.

``python -m tools.hosting.workflows NAME`` prints a twin.
"""

import argparse
import copy
import json
from pathlib import Path

from demo.styles import STYLES
from zsamb_core.headless.workflow import Workflow, fill, set_titled

__all__ = ["FOLDER", "Workflow", "demo_twin", "fill", "load", "set_titled", "with_steps"]
FOLDER = Path(__file__).resolve().parents[2] / "workflows" / "api"


def load(name: str) -> Workflow:
    return json.loads((FOLDER / f"{name}.json").read_text())


JUDGES = {"facebook/dino-vitb8": "demo DINO", "openai/clip-vit-large-patch14": "demo CLIP"}


def demo_twin(workflow: Workflow) -> Workflow:
    """The same graph on the embedded demo model: other loaders, 128 pixels where SDXL draws 1024. Style words
    that the demo model knows go: its pictures would be alike by them alone.
    """
    twin = copy.deepcopy(workflow)
    for node in twin.values():
        if node["class_type"] in ("CheckpointLoaderSimple", "CLIPVisionLoader"):
            node.update(class_type="ZSAMB_LoadDemoModel", inputs={})
        if node["class_type"] == "ZSAMB_LoadIPAdapter":
            node["inputs"]["file"] = "demo IP-Adapter"
        if node["class_type"] == "ZSAMB_LoadVisionModel":
            node["inputs"]["name"] = JUDGES[node["inputs"]["name"]]
        for name, value in node["inputs"].items():
            # Load CLIP Vision's only output is the demo loader's fourth.
            if isinstance(value, list) and workflow[value[0]]["class_type"] == "CLIPVisionLoader":
                node["inputs"][name] = [value[0], 3]
        if set(str(node["inputs"].get("style")).split()) & set(STYLES):
            node["inputs"]["style"] = ""
        for side in ("width", "height"):
            if node["inputs"].get(side) == 1024:
                node["inputs"][side] = 128
    return twin


def with_steps(workflow: Workflow, steps: int) -> Workflow:
    """With so many steps everywhere, and references without an offset, which a path of few steps has no room
    for.
    """
    changed = fill(workflow, steps=steps)
    return fill(changed, offset=0) if any("offset" in n["inputs"] for n in changed.values()) else changed


def main() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.json"))
    parser = argparse.ArgumentParser(prog="python -m tools.hosting.workflows", description=__doc__)
    parser.add_argument("name", choices=names)
    print(json.dumps(demo_twin(load(parser.parse_args().name)), indent=2))


if __name__ == "__main__":
    main()
