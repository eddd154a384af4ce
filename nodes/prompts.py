"""Many prompts as the rows of one conditioning, one per picture of a batch."""

from typing import Any

from comfy_api.latest import io

from ..zsamb_core.prompts import prompt_lines
from ._common import CATEGORY, connected, growing, naming
from ._host.batch_part import part_of_prompts
from ._host.conditioning import encode_rows
from ._host.conditioning_set import joined
from ._host.types import Clip, Conditioning, Latent

SET = "Conditioning Set"


class PromptSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_PromptSet",
            display_name="Prompt Set",
            category=CATEGORY,
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
                    dynamic_prompts=True,
                    default="a cat\na house\na boat\na flower",
                    tooltip="One picture per line. Empty lines do not count.",
                ),
                io.String.Input(
                    "style",
                    default="",
                    dynamic_prompts=True,
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
    def execute(cls, clip: Clip, prompts: str, style: str) -> io.NodeOutput:
        lines = prompt_lines(prompts, style)
        return io.NodeOutput(encode_rows(clip, lines), len(lines))


class PromptSetPart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_PromptSetPart",
            display_name="Prompt Set Part",
            category=CATEGORY,
            description=(
                "The prompts of a part of a batch, after Rebatch Latents or Latent From Batch. A sampler by"
                " itself gives every part the first prompts. Not needed where SharedAttention Patch or"
                " StyleBlockIPAdapter is on the model, which do this themselves."
            ),
            search_aliases=["rebatch", "batch prompts", "prompt list", "batch index", "Z-SAMB"],
            inputs=[
                io.Conditioning.Input(
                    "conditioning", tooltip="From Prompt Set: one row for each picture of the whole batch."
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="A part of the batch. Its numbers (batch_index) say which pictures it holds.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The rows of those pictures. For the sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, conditioning: Conditioning, latent: Latent) -> io.NodeOutput:
        return io.NodeOutput(part_of_prompts(conditioning, latent, "Prompt Set Part"))


class ConditioningSet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        socket = io.Conditioning.Input(
            "conditioning",
            tooltip="One picture's prompt, encoded by any node; or a Prompt Set, for several pictures.",
        )
        return io.Schema(
            node_id="ZSAMB_ConditioningSet",
            display_name=SET,
            category=CATEGORY,
            description=(
                "Prompts that other nodes have encoded, as the rows of one conditioning: one for each picture"
                " of the batch, as Prompt Set makes it of text. For weighting encoders, schedules and"
                " regions."
            ),
            search_aliases=[
                "batch conditioning",
                "multiple prompts",
                "regional prompts",
                "prompt weighting",
                "prompt control",
                "Prompt Set",
                "Z-SAMB",
            ],
            inputs=[
                growing(
                    "conditionings",
                    socket,
                    1,
                    "The pictures' conditionings, in order. Another input appears with each that is"
                    " connected.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "For prompts of different lengths: shorter ones are filled up with its empty pieces,"
                        " as Prompt Set does. Left open: all are repeated to a common length."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="One row per picture. For the sampler's positive."
                ),
                io.Int.Output(
                    display_name="batch_size", tooltip="The number of pictures. For Empty Latent Image."
                ),
            ],
        )

    @classmethod
    def execute(cls, conditionings: Any = None, clip: Clip | None = None) -> io.NodeOutput:
        given = connected(conditionings)
        with naming(SET):
            if not given:
                raise ValueError(
                    "conditionings has none, expected one at least. Connect a picture's conditioning to"
                    " conditioning0."
                )
            made = joined(given, None if clip is None else encode_rows(clip, [""])[0][0], SET)
        return io.NodeOutput(made, len(made[0][0]))


NODES = [PromptSet, PromptSetPart, ConditioningSet]
