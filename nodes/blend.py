"""Multi-Ref Blend: several references into one by weight, or passed on together."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..zsamb_core.finite import require_finite
from ..zsamb_core.style_aligned.blend import METHODS, blend, counted
from ..zsamb_core.style_aligned.reference import Reference, StyleReference, blended_trajectory
from ..zsamb_core.style_aligned.resize import FITS, fit
from ._common import CATEGORY, STYLE_REFERENCE, connected, naming, weight_rows
from ._host.conditioning import average
from ._host.outputs import without
from ._host.types import Vae

NODE = "Multi-Ref Blend"
ATTENTION = "attention"


class MultiRefBlend(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_MultiRefBlend",
            display_name=NODE,
            category=CATEGORY,
            description=(
                "Blends any number of references by weight: latents or pictures into one latent, to be"
                " inverted; or style references into one, or side by side in attention."
            ),
            search_aliases=["SLERP", "blend latents", "weighted blend", "Z-SASLM", "Z-SAMB"],
            inputs=[
                # A bypassed node passes on, for output n, its socket n if that fits, else the first that
                # does. With the VAE before them it is the first reference for latent and for reference.
                io.Vae.Input("vae", optional=True, tooltip="For pictures, and for the preview."),
                io.Autogrow.Input(
                    "references",
                    template=io.Autogrow.TemplatePrefix(
                        io.MultiType.Input(
                            "reference",
                            [io.Latent, io.Image, STYLE_REFERENCE],
                            tooltip=(
                                "A LATENT, an IMAGE (with vae) or a STYLE_REFERENCE; a batch is several"
                                " references."
                            ),
                        ),
                        prefix="reference",
                        min=1,
                        max=16,
                    ),
                    optional=True,
                    tooltip="References of one kind. Another input appears with each that is connected.",
                ),
                io.String.Input(
                    "weights",
                    default="1",
                    multiline=True,
                    tooltip=(
                        "One number per reference, in order: 0.7, 0.3. They need not sum to 1. One number"
                        " alone: all count the same. Several lines: a sweep, one blend per line as a batch."
                    ),
                ),
                io.Combo.Input(
                    "method",
                    options=[ATTENTION, *METHODS],
                    default=ATTENTION,
                    tooltip=(
                        "attention: for style references alone. It passes them on with their weights, and"
                        " SharedAttention Patch blends what pictures see: the best way where it was measured."
                        " The others blend latents, pictures, or the paths of style references. linear: the"
                        " weighted sum. slerp: the published blend on the sphere, two by two. karcher: the"
                        " mean on the sphere, the same in any order. variance preserving: for noise. as"
                        " coded: what the authors' code does, to repeat its pictures."
                    ),
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default="crop",
                    tooltip="How references of other sizes than the first are brought to its size.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The blend, for DDIM Invert."),
                STYLE_REFERENCE.Output(
                    display_name="reference",
                    tooltip="The blend of style references, for SharedAttention Patch.",
                ),
                io.Image.Output(
                    display_name="preview", tooltip="The blend as a picture, with vae connected."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, weights: str, method: str, fit: str, references: dict[str, Any], vae: Vae | None = None
    ) -> io.NodeOutput:
        with naming(NODE):
            values = list(connected(references).values())
            if any(isinstance(value, StyleReference) for value in values):
                nothing = without(
                    f"{NODE}: the references are STYLE_REFERENCEs, whose blend is output reference."
                )
                return io.NodeOutput(nothing, blended_references(values, weights, method), nothing)
            if method == ATTENTION:
                raise ValueError(
                    "method attention is for style references, and these are latents or pictures. Make each a"
                    " STYLE_REFERENCE with DDIM Invert or Noise Reference, which blends best, or choose"
                    " karcher to blend them as they are."
                )
            latents = as_latents(values, fit, vae)
            rows = weight_rows(weights, len(latents), NODE)
            blends = torch.stack([blend(latents, row, METHODS[method]) for row in rows])
        preview = None if vae is None else vae.decode(blends)
        return io.NodeOutput(
            {"samples": blends},
            without(f"{NODE}: the references are latents or pictures, whose blend is output latent."),
            without(f"{NODE}: the preview needs vae.") if preview is None else preview,
            ui=None if preview is None else ui.PreviewImage(preview),
        )


def as_latents(values: list, how: str, vae: Vae | None) -> torch.Tensor:
    """(n, C, h, w) of LATENTs and IMAGEs, at the first one's size."""
    if any(isinstance(value, torch.Tensor) for value in values):
        if vae is None:
            raise ValueError("a reference is an IMAGE and vae is not connected, expected the model's VAE.")
        if not all(isinstance(value, torch.Tensor) for value in values):
            raise ValueError("references are IMAGEs and LATENTs, expected one kind. Encode the pictures too.")
        for i, value in enumerate(values):
            require_finite(value, f"picture {i + 1} of the references")
        height, width = values[0].shape[1:3]
        pictures = [fit(value[..., :3].movedim(-1, 1), (height, width), how, 0.5) for value in values]
        return vae.encode(torch.cat(pictures).movedim(1, -1))
    samples = [value["samples"] for value in values]
    channels = {s.shape[1] for s in samples}
    if any(s.ndim != 4 for s in samples) or len(channels) > 1:
        shapes = ", ".join(str(tuple(s.shape)) for s in samples)
        raise ValueError(f"the latents are {shapes}, expected pictures of one model (n, channels, h, w).")
    for i, s in enumerate(samples):
        require_finite(s, f"latent {i + 1} of the references")
    size = tuple(samples[0].shape[-2:])
    return torch.cat([fit(s.float(), size, how) for s in samples])


def blended_references(values: list, weights: str, method: str) -> StyleReference:
    """STYLE_REFERENCEs as one: side by side with their weights, or their trajectories blended, with the mean
    of their conditionings.
    """
    if not all(isinstance(value, StyleReference) for value in values):
        raise ValueError("references are STYLE_REFERENCEs and others, expected one kind.")
    references: list[Reference] = [r for value in values for r in value.references]
    rows = weight_rows(weights, len(references), NODE)
    if len(rows) > 1:
        raise ValueError(f"weights has {len(rows)} lines, expected one for style references.")
    shares = counted(rows[0], len(references))
    counting = [(r, w) for r, w in zip(references, shares, strict=True) if w > 0]
    if method == ATTENTION or len(counting) == 1:
        return StyleReference(tuple(replace(r, weight=w) for r, w in counting))
    function = partial(blend, weights=[w for _, w in counting], method=METHODS[method])
    trajectory = blended_trajectory([r.trajectory for r, _ in counting], function)
    positive, negative = (
        average([(getattr(r, side), w) for r, w in counting]) for side in ("positive", "negative")
    )
    return StyleReference((Reference(trajectory, positive, negative),))


NODES = [MultiRefBlend]
