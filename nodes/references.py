"""Style references: by inversion, by noising, by recording, and what each counts."""

import logging
from dataclasses import replace

import torch
from comfy_api.latest import io, ui

from ..zsamb_core.finite import require_finite, require_numbers
from ..zsamb_core.sheet import Row, drawn, laid_out
from ..zsamb_core.style_aligned.inversion import psnr
from ..zsamb_core.style_aligned.options import PRESETS
from ..zsamb_core.style_aligned.reference import Reference, StyleReference
from ._common import CATEGORY, SCALE, SHIFT, STYLE_REFERENCE, naming, tell_ignored
from ._host.first_forms import added_later
from ._host.sdxl import require_additive_noise, require_sdxl
from ._host.style_aligned.inputs import check_prompts, one_picture
from ._host.style_aligned.inversion import SAMPLERS, SCHEDULERS, invert, rebuilt
from ._host.style_aligned.references import noised, recorded
from ._host.types import Conditioning, Latent, Mask, Model, Vae

OVERFLOW = (
    "The model overflows: try ComfyUI's options --force-fp32 or --force-upcast-attention, less cfg, or"
    " another sampler."
)
POSITIVE = io.Conditioning.Input(
    "positive", tooltip="A prompt that describes the picture: its content and its style."
)
NEGATIVE = io.Conditioning.Input("negative", tooltip="The negative prompt, usually empty.")
SHOWN = 512  # px of a picture's longer side, at most, where the node shows it
REFERENCE = STYLE_REFERENCE.Output(display_name="reference", tooltip="For SharedAttention Patch.")


class DDIMInvert(io.ComfyNode):
    @classmethod
    @added_later("refinements")
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
                    "latent",
                    tooltip="One picture from VAE Encode. It may have another size than what will be drawn.",
                ),
                POSITIVE,
                NEGATIVE,
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip=(
                        "Steps on the way up, one model call each (two above CFG 1), more with refinements."
                        " 50 in the authors' notebook."
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
                io.Int.Input(
                    "refinements",
                    default=0,
                    min=0,
                    max=10,
                    tooltip=(
                        "0: the published rule. From 1 on, each step is made to be what sampling undoes, with"
                        " so many model calls; 1 costs what the published rule does and rebuilds the picture"
                        " far better."
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
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip=(
                        "Connected: the node samples back from the noised latent, one model call more per"
                        " step, and shows the picture beside what it got back. The outputs stay the same."
                    ),
                ),
            ],
            outputs=[
                REFERENCE,
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The noised latent. Sample from it with added noise disabled.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        latent: Latent,
        positive: Conditioning,
        negative: Conditioning,
        steps: int,
        cfg: float,
        refinements: int = 0,
        scheduler: str = "simple",
        vae: Vae | None = None,
    ) -> io.NodeOutput:
        require_numbers("DDIM Invert", cfg=cfg)
        require_sdxl(model, "DDIM Invert")
        require_additive_noise(model, "DDIM Invert")
        samples = one_picture(model, latent, "DDIM Invert")
        check_prompts(positive, negative, "DDIM Invert")
        trajectory, top = invert(model, samples, positive, negative, scheduler, steps, cfg, refinements)
        require_finite(trajectory.points, "DDIM Invert: the path that the model made", OVERFLOW)
        shown = None
        if vae is not None:
            back = rebuilt(model, top, trajectory.sigmas, positive, negative, cfg)
            shown = ui.PreviewImage(comparison(vae.decode(samples)[0], vae.decode(back)[0])[None])
        reference = Reference(trajectory, positive, negative)
        return io.NodeOutput(StyleReference((reference,)), {"samples": top}, ui=shown)


def comparison(picture: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """Two pictures (H, W, 3) beside each other (h, w, 3), and how near the second is to the first."""
    near = f"PSNR {psnr(picture.clamp(0, 1), back.clamp(0, 1)):.1f} dB"
    logging.info(f"DDIM Invert: sampled back from the noised latent: {near} to the picture.")
    rows = [Row([picture, back], captions=("", near))]
    size = SHOWN if max(picture.shape) > SHOWN else 0
    return drawn(laid_out(rows, ("picture", "sampled back"), size), rows)


class NoiseReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_NoiseReference",
            display_name="Noise Reference",
            category=CATEGORY,
            description=(
                "A style reference without inversion: the picture plus one fixed noise at every noise level."
                " No model call, so it is instant; a little less faithful than DDIM Invert."
            ),
            search_aliases=["StyleAligned", "reference image", "q sample", "Z-SAMB"],
            inputs=[
                io.Model.Input("model", tooltip="The SDXL model that will draw."),
                io.Latent.Input("latent", tooltip="One picture from VAE Encode, of any size."),
                POSITIVE,
                NEGATIVE,
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the noise that is added to the picture.",
                ),
            ],
            outputs=[REFERENCE],
        )

    @classmethod
    def execute(
        cls, model: Model, latent: Latent, positive: Conditioning, negative: Conditioning, seed: int
    ) -> io.NodeOutput:
        require_sdxl(model, "Noise Reference")
        require_additive_noise(model, "Noise Reference")
        samples = one_picture(model, latent, "Noise Reference")
        check_prompts(positive, negative, "Noise Reference")
        trajectory = noised(model, samples, seed)
        return io.NodeOutput(StyleReference((Reference(trajectory, positive, negative),)))


class RecordReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_RecordReference",
            display_name="KSampler (Record Reference)",
            category=CATEGORY,
            description=(
                "Draws one picture as KSampler does, and keeps its way through the noise levels as a style"
                " reference, which is then exact. Draw until you like one, then draw the set."
            ),
            search_aliases=["StyleAligned", "KSampler", "reference latents", "Z-SAMB"],
            inputs=[
                io.Model.Input("model", tooltip="An SDXL model; patches on it act here too."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Of the noise.",
                ),
                io.Int.Input("steps", default=30, min=1, max=10000, tooltip="Sampling steps."),
                io.Float.Input(
                    "cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="Guidance."
                ),
                io.Combo.Input(
                    "sampler_name", options=SAMPLERS, default="ddim", tooltip="Any of the host's samplers."
                ),
                io.Combo.Input(
                    "scheduler", options=SCHEDULERS, default="simple", tooltip="Spacing of noise levels."
                ),
                io.Conditioning.Input("positive", tooltip="What the picture shows, content and style."),
                io.Conditioning.Input("negative", tooltip="The negative prompt."),
                io.Latent.Input(
                    "latent_image", tooltip="One picture: empty, or one to start from with denoise below 1."
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="1 draws from noise alone; less keeps more of the latent's picture.",
                ),
            ],
            outputs=[
                REFERENCE,
                io.Latent.Output(display_name="latent", tooltip="The picture itself, for VAE Decode."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Conditioning,
        negative: Conditioning,
        latent_image: Latent,
        denoise: float,
    ) -> io.NodeOutput:
        node = "KSampler (Record Reference)"
        require_numbers(node, cfg=cfg, denoise=denoise)
        require_sdxl(model, node)
        require_additive_noise(model, node)
        one_picture(model, latent_image, node, empty=True)
        if latent_image.get("noise_mask") is not None:
            require_finite(latent_image["noise_mask"], f"{node}: the latent input's noise mask")
        check_prompts(positive, negative, node)
        settings = {"steps": steps, "cfg": cfg, "sampler_name": sampler_name, "scheduler": scheduler}
        prompts = {"positive": positive, "negative": negative}
        with naming(node):
            trajectory, out = recorded(model, latent_image, seed, denoise=denoise, **settings, **prompts)
        require_finite(trajectory.points, f"{node}: the picture that the model drew", OVERFLOW)
        return io.NodeOutput(StyleReference((Reference(trajectory, positive, negative),)), out)


class WeighReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_StyleReference",
            display_name="Style Reference",
            category=CATEGORY,
            description=(
                "Sets what a style reference counts and how it is looked at, and joins it with others. Chain"
                " one of these per reference; their order does not matter. Bypassed, it leaves its reference"
                " out and passes the others on."
            ),
            search_aliases=["StyleAligned", "multi reference", "blend styles", "regional style", "Z-SAMB"],
            inputs=[
                # What a bypassed node passes on is its first input of the output's type: the others stay, and
                # this reference goes. Sockets that may be left open come after those that may not, so that
                # both are such.
                STYLE_REFERENCE.Input(
                    "others", optional=True, tooltip="References to join this one with, kept as they are."
                ),
                STYLE_REFERENCE.Input(
                    "reference", optional=True, tooltip="From DDIM Invert or another reference node."
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Where in the new pictures this reference counts (white; gray: as much of it), at"
                        " any size: one mask, or one per picture of the batch. Left open: everywhere."
                    ),
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Relative to the other references. 0 is the same as leaving this one out.",
                ),
                io.Combo.Input(
                    "preset",
                    options=["as the patch", *PRESETS, "custom"],
                    default="as the patch",
                    tooltip=(
                        "Shift and scale of this reference's attention logits. as the patch: what"
                        " SharedAttention Patch says. normal: shift ln 2, scale 1. famous: shift 0, scale"
                        " 0.5, for pictures that the model knows by heart. none: 0 and 1. custom: the two"
                        " numbers below."
                    ),
                ),
                SHIFT,
                SCALE,
                io.Int.Input(
                    "offset",
                    default=0,
                    min=0,
                    max=100,
                    advanced=True,
                    tooltip=(
                        "Points of the path by which the reference is less noisy than the pictures at the"
                        " start. 0: always at their noise level. The authors' notebook uses 5 of 50, which"
                        " is hardly visible. Not for Noise Reference, whose path has no such points."
                    ),
                ),
            ],
            outputs=[REFERENCE],
        )

    @classmethod
    def execute(
        cls,
        weight: float,
        preset: str,
        score_shift: float,
        score_scale: float,
        offset: int,
        reference: StyleReference | None = None,
        others: StyleReference | None = None,
        mask: Mask | None = None,
    ) -> io.NodeOutput:
        if reference is None:
            return io.NodeOutput(without_reference(others))
        if mask is not None and mask.numel():
            mask = mask.reshape(-1, *mask.shape[-2:])  # some nodes leave the batch out
        tell_ignored("Style Reference", preset, score_shift, score_scale)
        shift, scale = {"as the patch": (None, None), "custom": (score_shift, score_scale), **PRESETS}[preset]
        with naming("Style Reference"):
            changed = tuple(
                replace(
                    r,
                    weight=r.weight * weight,
                    shift=r.shift if shift is None else shift,
                    scale=r.scale if scale is None else scale,
                    mask=r.mask if mask is None else mask,
                    offset=offset,
                )
                for r in reference.references
            )
        return io.NodeOutput(
            StyleReference(changed + (others.references if others is not None else ())),
            ui=None if mask is None else ui.PreviewMask(mask),
        )


def without_reference(others: StyleReference | None) -> StyleReference:
    """What is left where no reference is connected, or the node that gives it is muted."""
    if others is None:
        raise ValueError(
            "Style Reference: neither reference nor others is connected, expected a reference. Connect DDIM"
            " Invert or another reference node; one that is muted or bypassed gives none."
        )
    logging.warning(
        "Style Reference: no reference is connected, or the node that gives it is muted; only the others are"
        " passed on."
    )
    return others


NODES = [DDIMInvert, NoiseReference, RecordReference, WeighReference]
