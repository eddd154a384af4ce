"""DDIM inversion (Song et al. 2021; the rule that StyleAligned publishes) written in the host's sigma
space.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]


def ddim_invert(
    z0: Tensor,
    sigmas: Tensor,
    denoise: Denoiser,
    on_step: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Carry a clean latent up the noise levels; returns its path, (S, B, C, h, w).

    ``z0`` (B, C, h, w) is in model space, ``sigmas`` (S,) rise from the model's smallest. ``denoise(x,
    sigma)`` is the model's x0 prediction at x = x0 + sigma * noise, guidance included. The published rule
    evaluates the model at the *target* noise level on the previous latent, whose variance-preserving form
    is kept: with ``x_e = x * sqrt((1 + sigma'^2) / (1 + sigma^2))`` the noise is ``eps = (x_e -
    denoise(x_e, sigma')) / sigma'`` and ``x += (sigma' - sigma) * eps``. ``on_step(i, x, denoised)`` is
    called after each of the S - 1 steps.
    """
    nodes = [float(s) for s in sigmas]
    # The published start: z0 *is* the variance-preserving latent at the smallest noise level, so x = z0 /
    # sqrt(abar).
    x = z0 * math.sqrt(1 + nodes[0] ** 2)
    path = [x]
    for i, (low, high) in enumerate(zip(nodes[:-1], nodes[1:], strict=True)):
        x_e = x * math.sqrt((1 + high**2) / (1 + low**2))
        denoised = denoise(x_e, high)
        x = x + (high - low) * ((x_e - denoised) / high)
        path.append(x)
        if on_step is not None:
            on_step(i, x, denoised)
    return torch.stack(path)
