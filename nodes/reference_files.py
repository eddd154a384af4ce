"""Style references kept in files: a library of styles, so that nothing is inverted twice."""

import logging
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..zsamb_core.finite import require_finite
from ..zsamb_core.style_aligned.reference import StyleReference
from ..zsamb_core.style_aligned.reference_file import load_reference, save_reference
from ._common import CATEGORY, STYLE_REFERENCE, fingerprint_of, naming
from ._host.folders import files, find, name_in, places_for, register
from ._host.types import Image

FOLDER = "style_references"
register(FOLDER, (".safetensors",), saved=True)
PREFIX = "reference"  # of saved files
GRAY = 0.5, 256  # of the picture that stands for none, and its side
FILE = io.Custom("STRING,COMBO")  # a text that may be linked to the loader's list, too


class SaveStyleReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SaveStyleReference",
            display_name="Save Style Reference",
            category=CATEGORY,
            description=(
                "Keeps a style reference in output/style_references, so that it need not be inverted again:"
                " its path, its prompts, and what it counts. A chain of references is one file."
            ),
            search_aliases=["save inversion", "style library", "StyleAligned", "Z-SAMB"],
            inputs=[
                STYLE_REFERENCE.Input(
                    "reference", tooltip="From DDIM Invert, Style Reference or another reference node."
                ),
                io.String.Input(
                    "filename_prefix", default=PREFIX, tooltip="The file's name, to be numbered."
                ),
                io.Image.Input(
                    "picture",
                    optional=True,
                    tooltip="What the reference shows. Kept small in the file, for Load Style Reference.",
                ),
            ],
            outputs=[FILE.Output(display_name="file", tooltip="The name for Load Style Reference.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, reference: StyleReference, filename_prefix: str, picture: Image | None = None
    ) -> io.NodeOutput:
        node = "Save Style Reference"
        first = None if picture is None else first_picture(picture, node)
        places = places_for(FOLDER, filename_prefix, ".safetensors", node, PREFIX)
        with naming(node):
            return io.NodeOutput(name_in(FOLDER, save_reference(reference, places, first)))


def first_picture(picture: Image, node: str) -> torch.Tensor:
    """(H, W, channels). Raises ValueError for a picture with values that are no numbers; logs that of several
    the first is taken.
    """
    require_finite(picture, f"{node}: the picture input")
    if len(picture) > 1:
        logging.warning(f"{node}: picture holds {len(picture)} pictures: the first of them is taken.")
    return picture[0]


class LoadStyleReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadStyleReference",
            display_name="Load Style Reference",
            category=CATEGORY,
            description=(
                "A style reference that Save Style Reference kept. It draws what the saved one drew, to the"
                " last bit."
            ),
            search_aliases=["load inversion", "style library", "StyleAligned", "Z-SAMB"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files(FOLDER),
                    tooltip="A file in output/style_references or models/style_references.",
                )
            ],
            outputs=[
                STYLE_REFERENCE.Output(
                    display_name="reference", tooltip="For SharedAttention Patch or Style Reference."
                ),
                io.Image.Output(
                    display_name="picture",
                    tooltip="The small picture that was saved with it; plain gray where there is none.",
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        node = "Load Style Reference"
        with naming(node):
            reference, picture = load_reference(find(FOLDER, file, node))
        if picture is not None:
            return io.NodeOutput(reference, picture[None], ui=ui.PreviewImage(picture[None]))
        logging.info(f"{node}: {file} was saved without a picture: output picture is plain gray.")
        level, side = GRAY
        return io.NodeOutput(reference, torch.full((1, side, side, 3), level))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        return fingerprint_of(partial(find, FOLDER), file, "Load Style Reference")


NODES = [SaveStyleReference, LoadStyleReference]
