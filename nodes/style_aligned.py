"""StyleAligned: shared self-attention, AdaIN on queries and keys, and the inversion that makes a picture a
reference.
"""

import math

from comfy_api.latest import io

from ..zsamb_core.options import AdaIN, Share
from ..zsamb_core.reference import StyleReference
from ._host.inversion import SCHEDULERS, invert
from ._host.sdxl import require_sdxl
from ._host.style_aligned import with_style

# STYLE_REFERENCE carries a zsamb_core.reference.StyleReference: a path x(sigma), its conditionings,
# immutable.
STYLE_REFERENCE = io.Custom("STYLE_REFERENCE")
CATEGORY = "style/Z-SAMB"


class SharedAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SharedAttention",
            display_name="SharedAttention Patch",
            category=CATEGORY,
            description=(
                "Draws a set of pictures in one style: every picture also attends to a reference"
                " (StyleAligned). Without a reference input the first picture of the batch is the reference."
            ),
            search_aliases=[
                "StyleAligned",
                "style aligned",
                "shared attention",
                "Z-SAMB",
                "consistent style",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SDXL model. The output is a patched clone; this one stays as it is."
                ),
                STYLE_REFERENCE.Input(
                    "reference",
                    optional=True,
                    tooltip="A picture's style, from DDIM Invert. Left open: the first picture of the batch.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How much attention the reference gets, as a factor on its share, and how far queries"
                        " and keys take its statistics unless AdaIN Queries says otherwise. 1: the published"
                        " method. 0: off, the model's own picture."
                    ),
                ),
                io.Float.Input(
                    "score_shift",
                    default=round(math.log(2), 4),
                    min=-5.0,
                    max=5.0,
                    step=0.05,
                    round=0.0001,
                    tooltip=(
                        "Added to the attention logits of the reference. ln 2 = 0.6931 counts it twice (the "
                        "authors' value for a reference picture); 0 is the paper's method for prompts only."
                    ),
                ),
                io.Float.Input(
                    "score_scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "Multiplies the attention logits of the reference. 1 normally; 0.5 with shift 0 is"
                        " the authors' value for very famous pictures, which would be copied otherwise."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, strength, score_shift, score_scale, reference=None) -> io.NodeOutput:
        return io.NodeOutput(
            with_style(
                model,
                "SharedAttention Patch",
                reference=reference,
                share=Share(strength, score_shift, score_scale),
            )
        )


class AdaINQueries(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_AdaINQueries",
            display_name="AdaIN Queries",
            category=CATEGORY,
            description=(
                "Gives the queries and keys of self-attention the mean and spread of the reference's (AdaIN)."
                " Alone it is a light style alignment; with SharedAttention Patch, before or after, it sets"
                " that node's AdaIN."
            ),
            search_aliases=["AdaIN", "StyleAligned", "adaptive instance normalization", "Z-SAMB"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SDXL model. The output is a patched clone; this one stays as it is."
                ),
                io.Boolean.Input("queries", default=True, tooltip="Normalise queries. On in the paper."),
                io.Boolean.Input("keys", default=True, tooltip="Normalise keys. On in the paper."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How far to go from the picture's own statistics (0) to the reference's (1, the"
                        " paper)."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, queries, keys, strength) -> io.NodeOutput:
        return io.NodeOutput(with_style(model, "AdaIN Queries", adain=AdaIN(queries, keys, strength)))


class DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_DDIMInvert",
            display_name="DDIM Invert",
            category=CATEGORY,
            description=(
                "Finds the noise that a picture would have come from, and keeps its whole path through the"
                " noise levels as a style reference."
            ),
            search_aliases=["inversion", "StyleAligned", "unsampler", "reference image", "Z-SAMB"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The SDXL model that will draw. Style patches on it are left out here."
                ),
                io.Latent.Input(
                    "latent", tooltip="One picture from VAE Encode, of the size that will be drawn."
                ),
                io.Conditioning.Input(
                    "positive", tooltip="A prompt that describes the picture: its content and its style."
                ),
                io.Conditioning.Input("negative", tooltip="The negative prompt, usually empty."),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip=(
                        "Model calls on the way up (twice as many above CFG 1). 50 in the authors' notebook."
                    ),
                ),
                io.Float.Input(
                    "cfg",
                    default=2.0,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip=(
                        "Guidance during inversion. The authors use 2; 1 rebuilds the picture most exactly."
                    ),
                ),
                io.Combo.Input(
                    "scheduler",
                    options=SCHEDULERS,
                    default="simple",
                    advanced=True,
                    tooltip=(
                        "Spacing of the noise levels. To rebuild the picture from the latent, sample with the"
                        " same scheduler and steps; as a style reference any will do."
                    ),
                ),
            ],
            outputs=[
                STYLE_REFERENCE.Output(display_name="reference", tooltip="For SharedAttention Patch."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The noised latent. Sample from it with added noise disabled.",
                ),
            ],
        )

    @classmethod
    def execute(cls, model, latent, positive, negative, steps, cfg, scheduler) -> io.NodeOutput:
        require_sdxl(model, "DDIM Invert")
        samples = latent["samples"]
        channels = model.get_model_object("latent_format").latent_channels
        if samples.ndim != 4 or samples.shape[1] != channels:
            raise ValueError(
                f"DDIM Invert: the latent input has shape {tuple(samples.shape)}, expected one SDXL picture"
                f" of {channels} channels (1, {channels}, height / 8, width / 8). Use VAE Encode with the"
                " model's VAE."
            )
        if samples.shape[0] != 1:
            raise ValueError(
                f"DDIM Invert: the latent input holds {samples.shape[0]} pictures, expected one reference."
                " Pick one with Latent From Batch."
            )
        if not samples.any():
            raise ValueError(
                "DDIM Invert: the latent input is empty (all zero), expected a picture. Connect VAE Encode, "
                "not Empty Latent Image."
            )
        path, noised = invert(model, samples, positive, negative, scheduler, steps, cfg)
        return io.NodeOutput(StyleReference(path, positive, negative), {"samples": noised})


NODES = [SharedAttention, AdaINQueries, DDIMInvert]
