"""Style images, encoded: with weights, kept in files, and with content taken out."""

import logging
import math
from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.finite import require_numbers
from ..zsamb_core.instantstyle.content import mask_content, project_out, subtract
from ..zsamb_core.instantstyle.style_embeds import StyleEmbeds, load_embeds, save_embeds
from ..zsamb_core.numbers import doubt, numbers
from ._common import CATEGORY, CROP, STYLE_EMBEDS, fingerprint_of, naming
from ._host.folders import files, find, name_in, places_for, register
from ._host.instantstyle.text_space import content_of_text
from ._host.instantstyle.vision import encode_images
from ._host.types import Clip, ClipVision, Image

FOLDER = "style_embeds"
register(FOLDER, (".safetensors",), saved=True)
PREFIX = "style"  # of saved files
SUBTRACT, PROJECT, MASK = "subtract", "project out", "mask"


class EncodeStyleImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_EncodeStyleImages",
            display_name="Encode Style Images",
            category=CATEGORY,
            description=(
                "Encodes style images, each with a weight of its own, for StyleBlockIPAdapter. Chain several"
                " for images of different sizes."
            ),
            search_aliases=["IPAdapter encoder", "combine embeds", "InstantStyle", "Z-SAMB"],
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="The image encoder that the adapter asks for."),
                io.Image.Input("image", tooltip="One style image or a batch of them."),
                io.String.Input(
                    "weights",
                    default="1",
                    tooltip=(
                        "What each image of the batch counts: one number for all, or one each, such as"
                        " 1, 0.5, 2. Twice the weight is the image twice; 0 leaves it out."
                    ),
                ),
                CROP,
                STYLE_EMBEDS.Input(
                    "others", optional=True, tooltip="Images encoded before, to which these are added."
                ),
            ],
            outputs=[STYLE_EMBEDS.Output(display_name="embeds")],
        )

    @classmethod
    def execute(
        cls, clip_vision: ClipVision, image: Image, weights: str, crop: str, others: StyleEmbeds | None = None
    ) -> io.NodeOutput:
        node = "Encode Style Images"
        counts = parse_numbers(weights, len(image), node)
        with naming(node):
            embeds = encode_images(clip_vision, image, crop, node, counts)
            return io.NodeOutput(embeds if others is None else embeds.joined(others))


def parse_numbers(text: str, count: int, node: str) -> tuple[float, ...]:
    """One weight per image, or one for all. Raises ValueError for anything else."""
    example = "for example: " + ", ".join(["1"] * min(count, 3))
    try:
        found = tuple(numbers(text))
    except ValueError as error:
        raise ValueError(f"{node}: weights: {error}, {example}") from error
    if len(found) not in (1, count) or not all(math.isfinite(n) and n >= 0 for n in found):
        raise ValueError(
            f"{node}: weights is {text!r}, expected one number of 0 or more, or {count} of them as there are"
            f" images, {example}"
        )
    if said := doubt(text):
        logging.warning(f"{node}: weights {said}")
    return found * (count if len(found) == 1 else 1)


class SubtractContent(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SubtractContent",
            display_name="Subtract Content",
            category=CATEGORY,
            description=(
                "Takes what style images show out of their embeddings, by a text or by another image, so that"
                " only their style is left (InstantStyle). For base adapters."
            ),
            search_aliases=["InstantStyle", "negative content", "neg_content_prompt", "Z-SAMB"],
            inputs=[
                STYLE_EMBEDS.Input("embeds", tooltip="From Encode Style Images."),
                io.Combo.Input(
                    "method",
                    options=[SUBTRACT, PROJECT, MASK],
                    default=SUBTRACT,
                    tooltip=(
                        "subtract: image minus scale times content, the authors'. project out: removes just"
                        " what lies along the content; no scale. mask: zeroes the elements where image and"
                        " content agree most (MaskST); no scale."
                    ),
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.05,
                    tooltip="For subtract: how much content to take away. The authors use 0.5 to 1. 0: none.",
                ),
                io.String.Input(
                    "content",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What the style image shows, in words: a cat. Needs the clip input.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "The text encoder that shares the images' space: SDXL's CLIP for a bigG encoder, a"
                        " ViT-H text encoder for ViT-H."
                    ),
                ),
                STYLE_EMBEDS.Input(
                    "content_embeds",
                    optional=True,
                    tooltip=(
                        "In place of a text: images of the content without the style, encoded by the same"
                        " encoder. Their weighted mean counts."
                    ),
                ),
            ],
            outputs=[STYLE_EMBEDS.Output(display_name="embeds")],
        )

    @classmethod
    def execute(
        cls,
        embeds: StyleEmbeds,
        method: str,
        scale: float,
        content: str,
        clip: Clip | None = None,
        content_embeds: StyleEmbeds | None = None,
    ) -> io.NodeOutput:
        node = "Subtract Content"
        require_numbers(node, scale=scale)
        if content.strip() and clip is None:
            raise ValueError(
                f"{node}: content is {content!r} and clip is not connected, expected the text encoder. To"
                " remove content by an image, leave content empty."
            )
        if (clip is None) == (content_embeds is None):
            raise ValueError(
                f"{node}: {'both' if clip else 'neither'} of clip and content_embeds connected, expected one:"
                " clip to describe the content in words, or content_embeds to show it."
            )
        with naming(node):
            return io.NodeOutput(without_content(embeds, method, scale, content, clip, content_embeds, node))


def without_content(
    embeds: StyleEmbeds,
    method: str,
    scale: float,
    content: str,
    clip: Clip | None,
    content_embeds: StyleEmbeds | None,
    node: str,
) -> StyleEmbeds:
    """``embeds`` with the content taken from the pooled embeddings."""
    if clip is not None:
        direction = content_of_text(clip, content, embeds.encoder, node)
    else:
        assert content_embeds is not None
        if content_embeds.encoder != embeds.encoder:
            raise ValueError(
                f"the style images are encoded by {embeds.encoder}, and the content by"
                f" {content_embeds.encoder}; expected one encoder, whose space both are in"
            )
        shown = content_embeds.counted()
        direction = shown.pooled.new_tensor(shown.weights) / sum(shown.weights) @ shown.pooled
    if method == SUBTRACT:
        pooled = subtract(embeds.pooled, direction, scale)
    else:
        pooled = (project_out if method == PROJECT else mask_content)(embeds.pooled, direction)
    return replace(embeds, pooled=pooled, changed=embeds.changed or pooled is not embeds.pooled)


class SaveStyleEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SaveStyleEmbeds",
            display_name="Save Style Embeds",
            category=CATEGORY,
            description=(
                "Keeps encoded style images in output/style_embeds, so that no encoder is needed again."
            ),
            search_aliases=["IPAdapter save embeds", "Z-SAMB"],
            inputs=[
                STYLE_EMBEDS.Input("embeds", tooltip="From Encode Style Images or Subtract Content."),
                io.String.Input(
                    "filename_prefix", default=PREFIX, tooltip="The file's name, to be numbered."
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The name for Load Style Embeds.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, embeds: StyleEmbeds, filename_prefix: str) -> io.NodeOutput:
        places = places_for(FOLDER, filename_prefix, ".safetensors", "Save Style Embeds", PREFIX)
        return io.NodeOutput(name_in(FOLDER, save_embeds(embeds, places)))


class LoadStyleEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadStyleEmbeds",
            display_name="Load Style Embeds",
            category=CATEGORY,
            description="Encoded style images that Save Style Embeds kept.",
            search_aliases=["IPAdapter load embeds", "Z-SAMB"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files(FOLDER),
                    tooltip="A file in output/style_embeds or models/style_embeds.",
                )
            ],
            outputs=[STYLE_EMBEDS.Output(display_name="embeds")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        node = "Load Style Embeds"
        with naming(node):
            return io.NodeOutput(load_embeds(find(FOLDER, file, node)))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        return fingerprint_of(partial(find, FOLDER), file, "Load Style Embeds")


NODES = [EncodeStyleImages, SubtractContent, SaveStyleEmbeds, LoadStyleEmbeds]
