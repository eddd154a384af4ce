"""CLIP_VISION: what it is, and what it makes of pictures."""

from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.utils
import torch

from ....zsamb_core.finite import require_finite
from ....zsamb_core.instantstyle.crops import pad_to_square, tiles
from ....zsamb_core.instantstyle.style_embeds import Encoder, StyleEmbeds
from ..types import ClipVision, Image

AT_ONCE = 8  # pictures in one pass of the encoder


def encoder_of(clip_vision: ClipVision, node: str) -> Encoder:
    """Raises ValueError for anything but a CLIP image encoder with a projection."""
    hidden, projection = (clip_vision.config.get(name, 0) for name in ("hidden_size", "projection_dim"))
    if clip_vision.model_type != "clip_vision_model" or not projection:
        raise ValueError(
            f"{node}: the clip_vision input is a {clip_vision.model_type} of {hidden} channels, expected a"
            " CLIP image encoder such as clip_vision_h.safetensors. Load one from models/clip_vision"
            " with Load CLIP Vision."
        )
    return Encoder(hidden, projection)


def load_encoder(path: Path) -> ClipVision:
    """As the host's Load CLIP Vision. Raises ValueError for a file that holds no such encoder."""
    clip_vision = comfy.clip_vision.load(str(path))
    if clip_vision is None:
        raise ValueError(
            f"{path.name} holds no image encoder that ComfyUI knows, expected one such as"
            " clip_vision_h.safetensors."
        )
    return clip_vision


def encode_images(
    clip_vision: ClipVision,
    images: Image,
    crop: str,
    node: str,
    weights: tuple[float, ...] | None = None,
    name: str = "image",
) -> StyleEmbeds:
    """StyleEmbeds of an IMAGE (n, H, W, 3 or 4), each counting ``weights[i]``, or all the same.

    ``crop``: "centre" and "squash" as the host's own encoding; "pad" to a square in the encoder's mean
    color; "tiles", where the tiles of a picture share its weight. Raises ValueError for other encoders and
    pictures.
    """
    encoder = encoder_of(clip_vision, node)
    if images.ndim != 4 or images.shape[-1] < 3 or not images.numel():
        raise ValueError(f"{node}: the {name} input has shape {tuple(images.shape)}, expected (n, H, W, 3).")
    require_finite(images, f"{node}: the {name} input")
    weights = weights or (1.0,) * len(images)
    images = images[..., :3]
    if crop == "pad":
        images = pad_to_square(images, clip_vision.image_mean)
    elif crop == "tiles":
        count = len(images)
        images = tiles(images)
        each = len(images) // count
        weights = tuple(weight / each for weight in weights for _ in range(each))
    pooled, hidden = [], []
    progress = comfy.utils.ProgressBar(len(images)) if len(images) > AT_ONCE else None
    for part in images.split(AT_ONCE):
        comfy.model_management.throw_exception_if_processing_interrupted()
        out = clip_vision.encode_image(part, crop=crop == "centre")
        pooled.append(out["image_embeds"].float().cpu())
        hidden.append(out["penultimate_hidden_states"].float().cpu())
        if progress:
            progress.update(len(part))
    return StyleEmbeds(encoder, torch.cat(pooled), torch.cat(hidden), blank(clip_vision), weights)


def blank(clip_vision: ClipVision) -> torch.Tensor:
    """(L, H): the penultimate hidden states of pixel values that are zero after normalization. The host's
    own encoding rounds pixels to whole levels, where no level is zero.
    """
    comfy.model_management.load_model_gpu(clip_vision.patcher)
    side = clip_vision.image_size
    pixels = torch.zeros(1, 3, side, side, device=clip_vision.load_device)
    return clip_vision.model(pixel_values=pixels, intermediate_output=-2)[1][0].float().cpu()
