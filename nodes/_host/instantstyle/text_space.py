"""A text in the space that CLIP's text and image encoders share, from a CLIP of the host."""

import torch

from ....zsamb_core.finite import require_finite
from ....zsamb_core.instantstyle.style_embeds import Encoder
from ..types import Clip

TOWERS = {"clip_g": "bigG's", "clip_h": "ViT-H's", "clip_l": "ViT-L's"}


def content_of_text(clip: Clip, text: str, encoder: Encoder, node: str) -> torch.Tensor:
    """(D,): the projected pooled embedding, not normalized, in the space of ``encoder``'s images. Raises
    ValueError for a text encoder of another space, or without its projection.
    """
    if not text.strip():
        raise ValueError(f"{node}: the content text is empty, expected what to remove, for example: a cat")
    name = next((n for n in TOWERS if getattr(clip.cond_stage_model, n, None) is not None), None)
    if name is None:
        kind = type(clip.cond_stage_model).__name__
        raise ValueError(
            f"{node}: the clip input is a {kind}, expected a CLIP text encoder that shares a space with the"
            f" image encoder. {_advice(encoder)}"
        )
    tower = getattr(clip.cond_stage_model, name)
    projection = tower.transformer.text_projection.weight
    width = projection.shape[0]
    if width != encoder.projection:
        raise ValueError(
            f"{node}: the clip input's pooled text is {TOWERS[name]} ({width} channels), and the images are"
            f" encoded by {encoder}; subtraction needs one space. {_advice(encoder)}"
        )
    if not tower.return_projected_pooled or torch.equal(projection.float().cpu(), torch.eye(width)):
        raise ValueError(
            f"{node}: the clip input ({TOWERS[name]} text encoder) gives text without its projection, so the"
            " text is not in the images' space: its file has none, or the host does not apply it."
            f" {_advice(encoder)}"
        )
    pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)[1]
    if pooled is None or pooled.shape[-1] != width:
        raise ValueError(
            f"{node}: the clip input gives {'no' if pooled is None else pooled.shape[-1]} pooled channels,"
            f" expected {width} of one text encoder. {_advice(encoder)}"
        )
    require_finite(pooled, f"{node}: the content text as the clip input encodes it")
    return pooled[0].float().cpu()


def _advice(encoder: Encoder) -> str:
    if encoder.projection == 1280:
        return "Use the CLIP of an SDXL checkpoint; its second text encoder is bigG's."
    if encoder.projection == 1024:
        return (
            "Use a ViT-H text encoder with its projection (laion/CLIP-ViT-H-14-laion2B-s32B-b79K, in"
            " models/text_encoders, by Load CLIP, type stable_diffusion), or a bigG adapter"
            " (ip-adapter_sdxl.safetensors) and SDXL's own CLIP."
        )
    return "Use the text encoder that was trained with the image encoder, or remove content by an image."
