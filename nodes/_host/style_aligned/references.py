"""References without inversion: noised, and recorded while a picture is drawn."""

from typing import Any

import torch
from comfy.model_management import get_torch_device
from comfy.patcher_extension import WrappersMP
from comfy.sample import prepare_noise
from comfy.samplers import KSampler

from ....zsamb_core.style_aligned.reference import Path, noised_path, recorded_path
from ..types import Model


def model_latent(model: Model, latent: torch.Tensor) -> torch.Tensor:
    """A LATENT in the space that the model works in."""
    return model.get_model_object("latent_format").process_in(latent)


def noised(model: Model, latent: torch.Tensor, seed: int) -> Path:
    """The path of ``latent`` (1, C, h, w) with the host's own noise of ``seed``."""
    return noised_path(model_latent(model, latent)[0].float(), prepare_noise(latent, seed)[0])


def recorded(model: Model, latent: dict, seed: int, **settings: Any) -> tuple[Path, dict]:
    """Draw one picture with the host's KSampler; its path, and the LATENT. Raises ValueError for a schedule
    without noise levels.
    """
    from nodes import common_ksampler  # the host's

    steps, scheduler = settings["steps"], settings["scheduler"]
    sampler, denoise = settings["sampler_name"], settings["denoise"]
    sigmas = KSampler(model, steps, get_torch_device(), sampler, scheduler, denoise).sigmas
    if not (sigmas.isfinite().all() and (sigmas > 0).any()):
        raise ValueError(
            f"the scheduler {scheduler} has no noise levels at {steps} step{'s' if steps > 1 else ''},"
            " expected one at least. Use more steps or another scheduler."
        )

    seen: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    def listen(
        executor: Any, x: torch.Tensor, timestep: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        denoised = executor(x, timestep, *args, **kwargs)
        seen.append((float(timestep.flatten()[0]), x[0].float().cpu(), denoised[0].float().cpu()))
        return denoised

    listening = model.clone()
    listening.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "zsamb_record", listen)
    (out,) = common_ksampler(listening, seed, latent=latent, **settings)
    noise = prepare_noise(latent["samples"], seed, latent.get("batch_index"))[0].float().cpu()
    return recorded_path(seen, model_latent(model, out["samples"])[0].float().cpu(), noise), out
