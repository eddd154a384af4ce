"""The knobs of StyleBlockIPAdapter on the demo model's own adapter, for ``nox -s pictures``."""

from collections.abc import Callable

import numpy as np
import torch

from demo.pictures import draw
from demo.styles import STYLES
from zsamb_core.layers import SDXL_BLOCKS, block_name

from .knobs import REFERENCES, Row, Set
from .studio import STYLE_BLOCK

ABOUT = """# Measured values of the adapter's knobs

Made by `python -m nox -s pictures -- --only instantstyle`, with the demo model's own IP-Adapter, otherwise as
in [values.md](values.md). The adapter was trained as adapters are, all blocks on
([demo/README.md](../../demo/README.md#the-adapter)).

- Similarity: mean cosine of the style descriptor to the style picture.
- Objects: how many of the four a classifier recognizes. What the style picture shows takes the place of the
  others.

First comes the set on the sheet: seed {seed}, a star in the style lava. Then come the means of
{sets} sets from that seed upward, in the five styles that no part of the demo family was trained on.
"""
BLOCKS = [block_name(block) for block in SDXL_BLOCKS]
STYLE = "{} {}".format(*STYLE_BLOCK)


def styled(s: Set, label: str, weights: str = "", image=None, **inputs) -> Row:
    """A row in the style of reference A; ``weights``: of blocks, in place of the preset."""
    picture = torch.from_numpy(s.drawn[0])[None].float() if image is None else image
    return Row(label, s.adapted(picture, weights, **inputs), s.drawn[:1])


def without(s: Set) -> Row:
    return Row("no adapter", s.base, s.drawn[:1])


def blocks(s: Set) -> list[Row]:
    return [without(s), *(styled(s, block, f"{block} = 1") for block in BLOCKS)]


def presets(s: Set) -> list[Row]:
    rows = [styled(s, f"preset\n{preset}", preset=preset) for preset in ("style", "strong style", "all")]
    return [without(s), *rows, styled(s, f"this model's own\nstyle: {STYLE}", f"{STYLE} = 1")]


def weight(s: Set) -> list[Row]:
    return [styled(s, f"{STYLE}\nweight {w:g}", f"{STYLE} = 1", weight=w) for w in (0.0, 0.5, 1.0, 1.5)]


def subtraction(s: Set) -> list[Row]:
    """The content by pictures of the same object in twelve other styles: the demo's text encoders are not in
    its image encoder's space.
    """
    others = [draw(REFERENCES[0], style, np.random.default_rng(i)) for i, style in enumerate(STYLES.values())]
    both = {"embeds": s.drawn[0][None], "content_embeds": np.stack(others)}
    encoded = {
        name: s.run(
            "style_embeds.EncodeStyleImages", clip_vision=s.clip_vision, image=torch.from_numpy(x).float()
        )[0]
        for name, x in both.items()
    }
    rows = []
    for scale in (0.0, 0.5, 1.0):
        image = s.run("style_embeds.SubtractContent", **encoded, scale=scale)[0]
        rows.append(styled(s, f"all, content\nminus {scale:g}", image=image, preset="all"))
    return rows


KNOBS: dict[str, Callable[[Set], list[Row]]] = {
    "adapter_blocks": blocks, "adapter_presets": presets, "adapter_weight": weight,
    "content_subtraction": subtraction,
}  # fmt: skip
