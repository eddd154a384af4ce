"""What the reference nodes take: one picture as a LATENT, and the prompts that describe it."""

from typing import Any

from ....zsamb_core.finite import require_finite
from ..conditioning import one_prompt
from ..types import Conditioning, Model


def one_picture(model: Model, latent: dict, node: str, empty: bool = False) -> Any:
    """The samples of a LATENT that holds one picture, (1, C, h, w). Raises ValueError for anything else."""
    samples = latent["samples"]
    channels = model.get_model_object("latent_format").latent_channels
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise ValueError(
            f"{node}: the latent input has shape {tuple(samples.shape)}, expected one SDXL picture of"
            f" {channels} channels (1, {channels}, height / 8, width / 8). Use VAE Encode with the model's"
            " VAE."
        )
    if samples.shape[0] != 1:
        raise ValueError(
            f"{node}: the latent input holds {samples.shape[0]} pictures, expected one reference. Pick one"
            " with Latent From Batch."
        )
    if not empty and not samples.any():
        raise ValueError(
            f"{node}: the latent input is empty (all zero), expected a picture. Connect VAE Encode, not Empty"
            " Latent Image."
        )
    require_finite(samples, f"{node}: the latent input")
    return samples


def check_prompts(positive: Conditioning, negative: Conditioning, node: str) -> None:
    """Raises ValueError for a CONDITIONING with values that are not numbers; logs that of several prompts the
    first is taken.
    """
    for name, conditioning in (("positive", positive), ("negative", negative)):
        one_prompt(conditioning, name, node)
        for tokens, details in conditioning:
            for x in (tokens, details.get("pooled_output")):
                if x is not None:
                    require_finite(x, f"{node}: the {name} input")
