"""Many prompts as the rows of one conditioning, one per picture of a batch."""

from comfy_api.latest import io

from ..zsamb_core.prompts import prompt_lines
from ._host.conditioning import encode_rows


class PromptSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_PromptSet",
            display_name="Prompt Set",
            category="style/Z-SAMB",
            description=(
                "One prompt per line, each with the same style words behind it: the first line is the first"
                " picture of the batch, and so on."
            ),
            search_aliases=["batch prompts", "multiple prompts", "prompt list", "StyleAligned", "Z-SAMB"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoders of an SDXL checkpoint."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="a cat\na house\na boat\na flower",
                    tooltip="One picture per line. Empty lines do not count.",
                ),
                io.String.Input(
                    "style",
                    default="",
                    tooltip="Words added to every prompt, for example: in watercolor style.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="One row per prompt. For the sampler's positive."
                ),
                io.Int.Output(
                    display_name="batch_size", tooltip="The number of prompts. For Empty Latent Image."
                ),
            ],
        )

    @classmethod
    def execute(cls, clip, prompts, style) -> io.NodeOutput:
        lines = prompt_lines(prompts, style)
        return io.NodeOutput(encode_rows(clip, lines), len(lines))


NODES = [PromptSet]
