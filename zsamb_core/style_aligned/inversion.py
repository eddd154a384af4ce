"""DDIM inversion (Song et al. 2021) written in the host's sigma space: by the rule that StyleAligned
publishes, or by one that the sampler's own steps undo.
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

    ``z0`` (B, C, h, w) is in model space, ``sigmas`` (S,) rise. ``denoise(x, sigma)`` is the model's x0
    prediction at x = x0 + sigma * noise, guidance included. ``on_call(i, x, denoised)`` is called after each
    of the (S - 1) * max(1, refinements) calls of the model.

    Without refinements this is the published rule: the model is asked at the *target* noise level about the
    previous latent, whose variance-preserving form is kept. With ``x_e = x * sqrt((1 + sigma'^2) / (1 +
    sigma^2))`` the noise is ``eps = (x_e - denoise(x_e, sigma')) / sigma'`` and ``x' = x + (sigma' - sigma)
    * eps``. ``sigmas`` starts at the model's smallest, where z0 *is* the published path's first latent.

    With refinements, x' is to be the latent from which a DDIM step down arrives at x: ``x = x' + (sigma -
    sigma') * eps(x', sigma')``, an implicit equation. It is solved by fixed-point iteration on the model's
    velocity v (Salimans & Ho 2022). At any noise level v changes little from one step to the next, unlike
    noise and picture. The first guess takes the last step's v, each refinement the v at the latest x'.
    ``sigmas`` starts at 0, where a sampler ends.
    """
    nodes = [float(s) for s in sigmas]
    x = z0 * math.sqrt(1 + nodes[0] ** 2)
    path, calls, v = [x], 0, torch.zeros_like(z0)

    def ask(x: Tensor, sigma: float) -> Tensor:
        nonlocal calls
        denoised = denoise(x, sigma)
        if on_call is not None:
            on_call(calls, x, denoised)
        calls += 1
        return denoised

    for low, high in zip(nodes[:-1], nodes[1:], strict=True):
        if not refinements:
            x_e = x * math.sqrt((1 + high**2) / (1 + low**2))
            x = x + (high - low) * ((x_e - ask(x_e, high)) / high)
        else:
            x_high = step_up(x, low, v, high)
            for _ in range(refinements):
                v = velocity(x_high, ask(x_high, high), high)
                x_high = step_up(x, low, v, high)
            x = x_high
        path.append(x)
    return torch.stack(path)


def velocity(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """v of Salimans & Ho (2022): ``x0 = alpha z - s v`` for z = alpha x, alpha = 1 / sqrt(1 + sigma^2)."""
    return (x / (1 + sigma**2) - denoised) * math.sqrt(1 + sigma**2) / sigma


def step_up(x: Tensor, low: float, v: Tensor, high: float) -> Tensor:
    """The x' at ``high`` with velocity ``v`` there from which a DDIM step down to ``low`` arrives at ``x``.

    With x0 = x' / (1 + s^2) - s / sqrt(1 + s^2) * v at s = high, the step is linear in x'.
    """
    over, step = 1 + high**2, (high - low) / high
    return (x + step * high / math.sqrt(over) * v) / (1 - step * (1 - 1 / over))


def psnr(picture: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of one shape in 0..1; infinite for equal ones."""
    error = float((picture - other).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
