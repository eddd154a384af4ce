"""Draw with the shipped workflows on a server, and lay the pictures out."""

import copy

import numpy as np
import torch
from PIL import Image

from demo.pictures import draw
from demo.styles import HELD_OUT
from zsamb_core import sheet
from zsamb_core.layers import SDXL_BLOCKS

from ..hosting import workflows
from ..hosting.server import Server

MODES = ("reference", "prompts")
STYLE_BLOCK = ("output", 5)  # of the demo UNet


def to_image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def to_array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), np.float32) / 255


def as_tensor(picture: np.ndarray | Image.Image | None) -> torch.Tensor | None:
    if picture is None:
        return None
    array = to_array(picture) if isinstance(picture, Image.Image) else picture
    return torch.tensor(array, dtype=torch.float32)


def drawn_reference(style: str, obj: str, seed: int) -> Image.Image:
    """A picture in a style that the demo model was never trained on."""
    return to_image(draw(obj, HELD_OUT[style], np.random.default_rng(seed)))


def progress_line(label: str):
    def show(node: str, step: int, total: int) -> None:
        print(f"\r{label}: {node} {step}/{total}   ", end="\n" if step >= total else "", flush=True)

    return show


class Studio:
    """A server, and the two workflows on the model that was asked for."""

    def __init__(self, server: Server, checkpoint: str | None = None, **settings):
        """``settings`` are inputs to set in both workflows, such as ``steps``."""
        self.server, self.checkpoint, self.settings = server, checkpoint, settings

    def workflow(self, mode: str) -> workflows.Workflow:
        return self.on_model(workflows.load(f"style_aligned_{mode}"))

    def on_model(self, workflow: workflows.Workflow) -> workflows.Workflow:
        """The workflow on the checkpoint as it is, or on the demo model with what suits that, in place of the
        authors' settings for SDXL: docs/measured.md has both.
        """
        if self.checkpoint:
            workflow = workflows.fill(workflow, ckpt_name=self.checkpoint)
        else:
            workflow = workflows.demo_twin(workflow)
            for node in workflow.values():
                if node["class_type"] == "KSampler":
                    node["inputs"] |= {"steps": 30, "cfg": 5.0}
                if node["class_type"] == "ZSAMB_SharedAttention":
                    node["inputs"]["preset"] = "normal"
                if node["class_type"] == "ZSAMB_StyleReference":
                    node["inputs"]["offset"] = 0
        return workflows.fill(workflow, **self.settings)

    @property
    def side(self) -> int:
        """Width and height of the pictures, in pixels."""
        (latent,) = [n for n in self.workflow("prompts").values() if n["class_type"] == "EmptyLatentImage"]
        return latent["inputs"]["width"]

    def draw(
        self,
        mode: str,
        aligned: bool,
        prompts: list[str],
        seed: int,
        reference: Image.Image,
        reference_prompt: str,
        show: bool = True,
    ) -> list[np.ndarray]:
        """One picture per prompt. ``aligned`` off is the same graph with the patch at strength 0: the stock
        model.
        """
        values = {"prompts": "\n".join(prompts), "style": "", "seed": seed, "strength": float(aligned)}
        workflow = workflows.fill(self.workflow(mode), **values)
        if mode == "reference":
            reference.save(self.server.base / "input" / "reference.png")
            workflow = workflows.fill(workflow, image="reference.png")
            workflow = workflows.set_titled(workflow, "What the reference shows", text=reference_prompt)
        label = f"{mode}, {'aligned' if aligned else 'unaligned'}"
        return self.server.run(workflow, progress_line(label) if show else None)

    def instantstyle(self, prompts: list[str], seed: int, reference: Image.Image) -> list[np.ndarray]:
        """One picture per prompt, in the reference's style by the demo's adapter."""
        values = {"prompts": "\n".join(prompts), "style": "", "seed": seed, "image": "reference.png"}
        workflow = workflows.fill(self.on_model(workflows.load("instantstyle")), **values)
        reference.save(self.server.base / "input" / "reference.png")
        return self.server.run(in_style_block(workflow), progress_line("instantstyle"))

    def blend(
        self, prompts: list[str], seed: int, references: list[tuple[Image.Image, str]], weight: float
    ) -> list[np.ndarray]:
        """One picture per prompt from two (reference, what it shows), the first counting ``weight`` of 1."""
        workflow = workflows.fill(
            self.workflow("two_references"), prompts="\n".join(prompts), style="", seed=seed
        )
        weights = (weight, 1 - weight)
        for name, (picture, shown), w in zip(("first", "second"), references, weights, strict=True):
            picture.save(self.server.base / "input" / f"{name}.png")
            workflow = workflows.set_titled(
                workflow, f"{name.title()} reference picture", image=f"{name}.png"
            )
            workflow = workflows.set_titled(workflow, f"What the {name} reference shows", text=shown)
            workflow = workflows.set_titled(workflow, f"Weight of the {name} reference", weight=w)
        return self.server.run(workflow, None)


def in_style_block(workflow: workflows.Workflow) -> workflows.Workflow:
    """The demo twin with its style images, if any, in the block that carries style in the demo UNet: see
    demo/README.md.
    """
    sliders = {f"{name}_{number}": float((name, number) == STYLE_BLOCK) for name, number in SDXL_BLOCKS}
    weights = {
        "class_type": "ZSAMB_BlockWeights", "inputs": {**sliders, "layers": ""},
        "_meta": {"title": "Block Weights"},
    }  # fmt: skip
    changed = {**copy.deepcopy(workflow), "block weights": weights}
    for node in changed.values():
        if node["class_type"] == "ZSAMB_StyleBlockIPAdapter":
            node["inputs"]["block_weights"] = ["block weights", 0]
    return changed


def contact_sheet(
    rows: list[tuple[str, Image.Image | None, list[np.ndarray]]], heads: list[str], side: int
) -> Image.Image:
    """Rows of (label, reference or None, pictures) under a line of heads."""
    sheet_rows = [
        sheet.Row([as_tensor(cell) for cell in (reference, *pictures)], label)
        for label, reference, pictures in rows
    ]
    layout = sheet.laid_out(sheet_rows, ["reference", *heads], side)
    return to_image(sheet.drawn(layout, sheet_rows).numpy())
