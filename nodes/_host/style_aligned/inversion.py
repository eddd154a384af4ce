"""DDIM inversion through the host's own guider, so that every SDXL variant, CFG, progress and interrupt are
the host's.
"""

import logging
from typing import Any

import comfy.samplers
import torch
from comfy.utils import ProgressBar

from ....zsamb_core.style_aligned.inversion import ddim_invert
from ....zsamb_core.style_aligned.reference import Trajectory
from ..types import Conditioning, Model
from .patch import without_style

SAMPLERS: list[str] = list(comfy.samplers.SAMPLER_NAMES)
SCHEDULERS: list[str] = list(comfy.samplers.SCHEDULER_NAMES)


def inversion_sigmas(model: Model, scheduler: str, steps: int, start: float | None = None) -> torch.Tensor:
    """The scheduler's noise levels from low to high, (steps + 1,) or fewer; its final 0 becomes ``start``,
    the model's smallest sigma if not given. Levels that the schedule repeats count once: a model that was
    distilled to 50 levels has no more, whatever the steps.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    lowest = float(sampling.sigma_min)
    scheduled = sigmas[sigmas > lowest * 1.0001].float()
    above = scheduled.unique()
    rising = torch.cat([torch.tensor([lowest if start is None else start]), above])
    repeated = len(scheduled) - len(above)
    if repeated:
        logging.warning(
            f"DDIM Invert: {repeated} of the {steps} steps by the scheduler {scheduler} repeat a noise level"
            f" of this model and are left out. {len(above)} are made."
        )
    if len(rising) < 2:
        raise ValueError(
            f"DDIM Invert: the scheduler {scheduler} has no noise level above the model's smallest at {steps}"
            " steps, expected at least one. Use more steps or another scheduler."
        )
    return rising


def invert(
    model: Model,
    latent: torch.Tensor,
    positive: Conditioning,
    negative: Conditioning,
    scheduler: str,
    steps: int,
    cfg: float,
    refinements: int = 0,
) -> tuple[Trajectory, torch.Tensor]:
    """The trajectory of ``latent`` (1, C, h, w), and the fully noised latent in latent space."""
    trajectories: list[torch.Tensor] = []
    # A sampler ends at 0; the published rule takes the picture for the latent at the smallest noise level.
    sigmas = inversion_sigmas(model, scheduler, steps, 0.0 if refinements else None)
    calls = (len(sigmas) - 1) * max(1, refinements)
    progress = ProgressBar(calls)

    def sample(
        guided: Any,
        x: torch.Tensor,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        disable: Any,
    ) -> torch.Tensor:
        def denoise(x_e: torch.Tensor, sigma: float) -> torch.Tensor:
            return guided(x_e, sigma * x_e.new_ones(len(x_e)), **extra_args)

        def on_call(i: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
            progress.update_absolute(i + 1, calls)
            if callback is None:  # older hosts give samplers the guider's, which is none here
                return
            sigma = sigmas[i // max(1, refinements) + 1]
            callback({"i": i, "x": x, "denoised": denoised, "sigma": sigma, "sigma_hat": sigma})

        trajectories.append(ddim_invert(x, sigmas, denoise, refinements, on_call))
        return trajectories[0][-1]

    guider = comfy.samplers.CFGGuider(without_style(model))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    noised = guider.sample(torch.zeros_like(latent), latent, comfy.samplers.KSAMPLER(sample), sigmas)
    # The sampler may run on another device than where the host keeps what passes between nodes.
    return Trajectory(sigmas, trajectories[0][:, 0].to(noised.device)), noised


def rebuilt(
    model: Model,
    noised: torch.Tensor,
    sigmas: torch.Tensor,
    positive: Conditioning,
    negative: Conditioning,
    cfg: float,
) -> torch.Tensor:
    """The picture (1, C, h, w) that DDIM draws from ``noised``, what `invert` gave out, down the noise levels
    ``sigmas`` of its trajectory: one model call for each, as KSampler (Advanced) without added noise.
    """
    falling = sigmas.flip(0).clone()
    falling[-1] = 0.0
    progress = ProgressBar(len(falling) - 1)

    def on_step(step: int, denoised: torch.Tensor, x: torch.Tensor, steps: int) -> None:
        progress.update_absolute(step + 1, steps)

    guider = comfy.samplers.CFGGuider(without_style(model))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    # In sigma space Euler's step is DDIM's. The host's "ddim" sets torch's seed besides.
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(torch.zeros_like(noised), noised, sampler, falling, callback=on_step)
