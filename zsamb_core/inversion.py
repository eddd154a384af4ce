"""DDIM inversion (Song et al. 2021; the rule that StyleAligned publishes) written in the host's sigma
space, with a refinement that solves the step exactly.
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
    refinements: int = 0,
    on_call: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Carry a clean latent up the noise levels; returns its path, (S, B, C, h, w).

    ``z0`` (B, C, h, w) is in model space, ``sigmas`` (S,) rise from the model's smallest. ``denoise(x,
    sigma)`` is the model's x0 prediction at x = x0 + sigma * noise, guidance included. The published rule
    evaluates the model at the *target* noise level on the previous latent, whose variance-preserving form
    is kept: with ``x_e = x * sqrt((1 + sigma'^2) / (1 + sigma^2))`` the noise is ``eps = (x_e -
    denoise(x_e, sigma')) / sigma'`` and ``x' = x + (sigma' - sigma) * eps``. Each of the ``refinements``
    then calls the model at the x' found so far (`refined`). ``on_call(i, x, denoised)`` is called after
    each of the (S - 1) * (1 + refinements) calls of the model.
    """
    nodes = [float(s) for s in sigmas]
    # The published start: z0 *is* the variance-preserving latent at the smallest noise level, so x = z0 /
    # sqrt(abar).
    x = z0 * math.sqrt(1 + nodes[0] ** 2)
    path = [x]
    calls = 0
    for low, high in zip(nodes[:-1], nodes[1:], strict=True):
        x_e = x * math.sqrt((1 + high**2) / (1 + low**2))
        denoised = denoise(x_e, high)
        x_high = x + (high - low) * ((x_e - denoised) / high)
        for i in range(1 + refinements):
            if i:
                denoised = denoise(x_high, high)
                x_high = refined(x, low, x_high, denoised, high)
            if on_call is not None:
                on_call(calls, x_high, denoised)
            calls += 1
        x = x_high
        path.append(x)
    return torch.stack(path)


def refined(x: Tensor, low: float, x_high: Tensor, denoised: Tensor, high: float) -> Tensor:
    """One fixed-point iteration towards the x' from which a DDIM step down to ``low`` arrives at ``x``:
    ``x = x' + (low - high) * eps(x', high)``.

    The iteration holds the model's velocity v (Salimans & Ho 2022), x0 = alpha z - s v in
    variance-preserving terms, not its noise prediction: at low noise v is about the clean picture and at
    high noise about the noise, the one that moves less with x', so it converges at either end.
    """
    # With x0 = x' / (1 + s^2) - s / sqrt(1 + s^2) * v at s = high, the step is linear in x'.
    over = 1 + high**2
    s_v = x_high / over - denoised  # s / sqrt(1 + s^2) * v
    step = (high - low) / high
    return (x + step * s_v) / (1 - step * (1 - 1 / over))
