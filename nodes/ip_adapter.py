"""InstantStyle: an IP-Adapter's image features in the blocks that carry style or layout."""

import logging
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.finite import require_finite, require_numbers
from ..zsamb_core.instantstyle.adapter_file import Adapter
from ..zsamb_core.instantstyle.blocks import PRESETS, chosen_weights, parse_weights
from ..zsamb_core.instantstyle.content import subtract
from ..zsamb_core.instantstyle.style_embeds import StyleEmbeds, refuse_pairing, wanted
from ..zsamb_core.instantstyle.style_images import project_images
from ..zsamb_core.layers import SDXL_BLOCKS, block_name
from ..zsamb_core.numbers import comma_note, parse_curve
from ..zsamb_core.schedule import Window
from ._common import (
    BLOCK_WEIGHTS,
    CATEGORY,
    CROP,
    END,
    START,
    STYLE_ADAPTER,
    STYLE_EMBEDS,
    check_window,
    naming,
)
from ._host.instantstyle.style_images import NODE, as_hooks, with_images
from ._host.instantstyle.text_space import content_of_text
from ._host.instantstyle.vision import encode_images, encoder_of
from ._host.sdxl import cross_attention
from ._host.types import Clip, ClipVision, Image, Mask, Model

ROLES = {("input", 8): " Layout.", ("output", 0): " Content, by B-LoRA.", ("output", 1): " Style."}


class BlockWeights(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_BlockWeights",
            display_name="Block Weights",
            category=CATEGORY,
            description=(
                "How much a style image counts in each attention block, and in each layer of a block. A"
                " negative weight pushes away from what the block carries."
            ),
            search_aliases=["IPAdapter layer weights", "mad scientist", "InstantStyle", "Z-SAMB"],
            inputs=[
                *(
                    io.Float.Input(
                        f"{name}_{number}",
                        default=1.0 if (name, number) == ("output", 1) else 0.0,
                        min=-5.0,
                        max=5.0,
                        step=0.05,
                        tooltip=f"SDXL's block {block_name((name, number))}.{ROLES.get((name, number), '')}",
                    )
                    for name, number in SDXL_BLOCKS
                ),
                io.String.Input(
                    "layers",
                    default="",
                    multiline=True,
                    tooltip=(
                        "More weights, over those above: block = weight, or block.layer = weight, layers"
                        " counted from 0. For example: output 1.0-4 = 0.5, output 3 = 1. SD1.5's other blocks"
                        " go here, with output 1 above at 0."
                    ),
                ),
            ],
            outputs=[BLOCK_WEIGHTS.Output(display_name="weights", tooltip="For StyleBlockIPAdapter.")],
        )

    @classmethod
    def execute(cls, layers: str, **sliders: float) -> io.NodeOutput:
        require_numbers("Block Weights", **sliders)
        weights = {(name, number, None): sliders[f"{name}_{number}"] for name, number in SDXL_BLOCKS}
        with naming("Block Weights"):
            return io.NodeOutput(weights | parse_weights(layers))


class StyleBlockIPAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_StyleBlockIPAdapter",
            display_name="StyleBlockIPAdapter",
            category=CATEGORY,
            description=(
                "Draws in the style of an image, without its content: its IP-Adapter features enter only the"
                " attention blocks that carry style (InstantStyle). Or only layout, or any blocks."
            ),
            search_aliases=[
                "IPAdapter",
                "IP-Adapter",
                "InstantStyle",
                "style transfer",
                "composition transfer",
                "Z-SAMB",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="An SDXL or SD1.5 model. The output is a patched clone; this one stays as it is.",
                ),
                STYLE_ADAPTER.Input("adapter", tooltip="From Load IP-Adapter."),
                io.MultiType.Input(
                    "image",
                    [io.Image, STYLE_EMBEDS],
                    tooltip=(
                        "The style image, or several as a batch; or embeds from Encode Style Images, which"
                        " can weigh them."
                    ),
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    tooltip="How much the image counts beside the prompt. The authors use 1. 0: off.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="style",
                    tooltip=(
                        "The blocks that see the image. style: the authors' default. layout: where things"
                        " are. precise style: style, and guidance pushed away from its layout. strong style:"
                        " all but layout. all: a plain IP-Adapter."
                    ),
                ),
                CROP,
                START,
                END,
                io.String.Input(
                    "weight_curve",
                    default="1",
                    advanced=True,
                    tooltip=(
                        "Factors on the weight at even distances from start to end, joined by lines: 0, 1"
                        " rises, 1, 0 falls, 0, 1, 0 swells."
                    ),
                ),
                io.String.Input(
                    "content",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    advanced=True,
                    tooltip=(
                        "What the style image shows, to be subtracted: a cat. Needs the clip input and a base"
                        " adapter. Empty: nothing is."
                    ),
                ),
                io.Float.Input(
                    "content_scale",
                    default=0.5,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How much of the content to subtract. The authors use 0.5 to 1.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The image encoder that the adapter is made for. Not needed for embeds.",
                ),
                io.MultiType.Input(
                    "negative",
                    [io.Image, STYLE_EMBEDS],
                    optional=True,
                    tooltip=(
                        "What to keep away from: an image for the negative side. Left open: no image there."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the image counts: one mask, or one per picture of the batch. Of any size.",
                ),
                BLOCK_WEIGHTS.Input(
                    "block_weights", optional=True, tooltip="From Block Weights, in place of the preset."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder for content, in the image encoder's space.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Hooks.Output(
                    display_name="hooks",
                    tooltip=(
                        "The same style for single prompts: give these to Cond Set Props and sample with the"
                        " model that came in."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        adapter: Adapter,
        image: Image | StyleEmbeds,
        weight: float,
        preset: str,
        crop: str,
        start_percent: float,
        end_percent: float,
        weight_curve: str,
        content: str,
        content_scale: float,
        clip_vision: ClipVision | None = None,
        negative: Image | StyleEmbeds | None = None,
        mask: Mask | None = None,
        block_weights: Any = None,
        clip: Clip | None = None,
    ) -> io.NodeOutput:
        require_numbers(NODE, weight=weight, content_scale=content_scale)
        check_window(start_percent, end_percent, NODE)
        for line in without_effect(preset, block_weights, content.strip(), content_scale, clip):
            logging.warning(f"{NODE}: {line}.")
        with naming(NODE):
            structure = cross_attention(model, adapter.projector.width, NODE)
            weights = chosen_weights(preset, block_weights, list(structure))
            window = Window(start_percent, end_percent, parse_curve(weight_curve))
            if note := comma_note(weight_curve):
                logging.warning(f"{NODE}: weight_curve {note}")
            check_mask(mask)
            embeds = encoded(image, clip_vision, crop, adapter, "image")
            if content.strip() and content_scale:
                embeds = without_text(embeds, adapter, content, content_scale, clip)
            away = None if negative is None else encoded(negative, clip_vision, crop, adapter, "negative")
            images = project_images(adapter, embeds, weights, structure, away)
        images = replace(images.scaled(weight), window=window, mask=mask)
        return io.NodeOutput(with_images(model, images), as_hooks(images))


def encoded(
    image: Image | StyleEmbeds, clip_vision: ClipVision | None, crop: str, adapter: Adapter, name: str
) -> StyleEmbeds:
    """The embeds of an input that may be an IMAGE. Raises ValueError for a wrong encoder before it runs."""
    if isinstance(image, StyleEmbeds):
        return image
    if clip_vision is None:
        raise ValueError(
            f"the {name} input is an IMAGE and clip_vision is not connected, expected the image encoder:"
            f" {wanted(adapter.projector)}. Load it with Load CLIP Vision."
        )
    refuse_pairing(adapter.projector, encoder_of(clip_vision, NODE))
    return encode_images(clip_vision, image, crop, NODE, name=name)


def without_text(
    embeds: StyleEmbeds, adapter: Adapter, content: str, scale: float, clip: Clip | None
) -> StyleEmbeds:
    """The authors' subtraction of a text. Raises ValueError where it has no meaning."""
    if adapter.projector.kind != "base":
        raise ValueError(
            "content is set, and the adapter is a plus adapter, which reads patch features that a text cannot"
            " be subtracted from. Use a base adapter (ip-adapter_sdxl_vit-h, ip-adapter_sdxl), or empty"
            " content."
        )
    if clip is None:
        raise ValueError(
            "content is set and clip is not connected, expected the text encoder in the image encoder's"
            " space: SDXL's CLIP for a bigG adapter, a ViT-H text encoder for a ViT-H one."
        )
    direction = content_of_text(clip, content, embeds.encoder, NODE)
    return replace(embeds, pooled=subtract(embeds.pooled, direction, scale), changed=True)


def without_effect(
    preset: str, block_weights: Any, content: str, content_scale: float, clip: Clip | None
) -> list[str]:
    """What is set and does nothing."""
    lines = {
        f"block_weights takes the place of preset {preset}": block_weights is not None and preset != "style",
        "content_scale is 0, so nothing is subtracted": content and not content_scale,
        "content is empty, so nothing is subtracted, and clip does nothing": clip is not None and not content,
    }
    return [line for line, so in lines.items() if so]


def check_mask(mask: Mask | None) -> None:
    """Raises ValueError for anything but a MASK of numbers."""
    if mask is not None and (mask.ndim != 3 or not mask.numel()):
        raise ValueError(f"the mask input has shape {tuple(mask.shape)}, expected (masks, height, width)")
    if mask is not None:
        require_finite(mask, "the mask input")


NODES = [StyleBlockIPAdapter, BlockWeights]
