"""Keeping the part of an IP-Adapter that is used."""

from typing import Any

from comfy_api.latest import io

from ..zsamb_core.instantstyle.adapter_file import Adapter
from ..zsamb_core.instantstyle.blocks import PRESETS, chosen_weights
from ..zsamb_core.instantstyle.export import export_adapter
from ._common import BLOCK_WEIGHTS, CATEGORY, IP_ADAPTERS, STYLE_ADAPTER, naming
from ._host.folders import name_in, places_for
from ._host.sdxl import cross_attention
from ._host.types import Model

PREFIX = "style_adapter"  # of saved files


class SaveStyleAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SaveStyleAdapter",
            display_name="Save Style Adapter",
            category=CATEGORY,
            description=(
                "Saves only the blocks of an IP-Adapter that a preset uses, to output/ipadapter: for style"
                " about a sixth of a base adapter, a third of a plus adapter."
            ),
            search_aliases=["IPAdapter save", "slim adapter", "InstantStyle", "Z-SAMB"],
            inputs=[
                STYLE_ADAPTER.Input("adapter", tooltip="From Load IP-Adapter."),
                io.Model.Input("model", tooltip="Any model of the adapter's kind; tells its blocks."),
                io.Combo.Input(
                    "preset", options=list(PRESETS), default="style", tooltip="The blocks to keep."
                ),
                io.Boolean.Input(
                    "padded",
                    default=False,
                    tooltip=(
                        "Fill all other blocks with zeros, for software that expects every block. As large"
                        " as the whole file, and it draws the same."
                    ),
                ),
                io.String.Input(
                    "filename_prefix", default=PREFIX, tooltip="The file's name, to be numbered."
                ),
                BLOCK_WEIGHTS.Input(
                    "block_weights",
                    optional=True,
                    tooltip=(
                        "In place of the preset: the layers to keep are those with a weight, which itself is"
                        " not saved."
                    ),
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The name for Load IP-Adapter.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        adapter: Adapter,
        model: Model,
        preset: str,
        padded: bool,
        filename_prefix: str,
        block_weights: Any = None,
    ) -> io.NodeOutput:
        node = "Save Style Adapter"
        with naming(node):
            structure = cross_attention(model, adapter.projector.width, node)
            chosen = chosen_weights(preset, block_weights, list(structure))
            places = places_for(IP_ADAPTERS, filename_prefix, ".safetensors", node, PREFIX)
            path = export_adapter(adapter, structure, chosen, places, padded)
        return io.NodeOutput(name_in(IP_ADAPTERS, path))


NODES = [SaveStyleAdapter]
