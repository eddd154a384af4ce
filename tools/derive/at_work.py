"""What nodes show at work, for their help pages, drawn on the demo model: ``nox -s workflows``."""

import tempfile
from pathlib import Path

import numpy as np

from ..draw.studio import to_image
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import Workflow
from .help_pictures import HELP

SEED = 3
BLOCKS = "input 4, middle 0, output 4-5"


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def inversion(cfg: float) -> Workflow:
    """The demo's style picture inverted, and shown beside what comes back."""
    settings = {"steps": 20, "cfg": cfg, "refinements": 0, "scheduler": "simple", "vae": ["1", 2]}
    prompts = {"positive": ["3", 0], "negative": ["4", 0]}
    return {
        "1": node("ZSAMB_LoadDemoModel"),
        "2": node("VAEEncode", pixels=["1", 4], vae=["1", 2]),
        "3": node("CLIPTextEncode", clip=["1", 1], text="a star"),
        "4": node("CLIPTextEncode", clip=["1", 1], text=""),
        "5": node("ZSAMB_DDIMInvert", model=["1", 0], latent=["2", 0], **prompts, **settings),
        # The node is no end of a graph by itself.
        "6": node("ZSAMB_SaveStyleReference", reference=["5", 0], filename_prefix="shown"),
    }


def attention() -> Workflow:
    """A set in the style of that picture, and where it looks."""
    sampler = {"seed": SEED, "steps": 20, "cfg": 5.0, "sampler_name": "ddim", "scheduler": "simple"}
    prompts = {"positive": ["7", 0], "negative": ["4", 0]}
    window = {"start_percent": 0.0, "end_percent": 1.0}
    inverted = inversion(2.0)
    del inverted["5"]["inputs"]["vae"]  # its picture would be among those of the run
    return inverted | {
        "7": node("ZSAMB_PromptSet", clip=["1", 1], prompts="a cat\na house\na boat\na flower", style=""),
        "8": node("EmptyLatentImage", width=128, height=128, batch_size=4),
        "9": node(
            "ZSAMB_SharedAttention", model=["1", 0], reference=["5", 0], strength=1.0, preset="normal",
            score_shift=0.0, score_scale=1.0, share="reference", blocks="all", only_self_level=0.0,
            share_group_norm=True, **window,
        ),
        "10": node("ZSAMB_RecordAttention", model=["9", 0]),
        "11": node("KSampler", model=["10", 0], latent_image=["8", 0], denoise=1.0, **prompts, **sampler),
        "12": node("VAEDecode", samples=["11", 0], vae=["1", 2]),
        "13": node(
            "ZSAMB_AttentionPicture", record=["10", 1], latent=["11", 0], images=["12", 0], blocks=BLOCKS,
            size=112, **window,
        ),
    }  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        good, bad = (server.run(inversion(cfg))[0] for cfg in (2.0, 5.0))
        shown = {"inversion": np.concatenate([good, bad], 1), "attention": server.run(attention())[0]}
    for name, picture in shown.items():
        to_image(picture).save(HELP / "pictures" / f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main()
