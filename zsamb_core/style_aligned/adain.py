"""Adaptive instance normalization of projected queries, keys and values (StyleAligned, equation 2; Huang &
Belongie 2017), towards one reference or several.

Tensors are (..., N, C): N tokens of C channels. Channels are per head already, so the flat (N, H * D) layout
gives the published per-head result. Statistics are taken in fp32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-5


class Statistics(NamedTuple):
    """Mean and deviation over tokens, fp32 (..., 1, C); deviation is ``sqrt(unbiased variance + eps)``."""

    mean: Tensor
    deviation: Tensor


def statistics(x: Tensor, mask: Tensor | None = None) -> Statistics:
    """Of all tokens of ``x`` (..., N, C), or of each as far as ``mask`` (..., N), 0 to 1, counts it.

    The weighted variance is the unbiased one for reliability weights: a mask of ones gives the plain result,
    and so does any constant. One token has no variance, where the unbiased one would be 0 / 0.
    """
    x = x.float()
    if mask is None:
        correction = min(1, x.shape[-2] - 1)
        variance, mean = torch.var_mean(x, dim=-2, keepdim=True, correction=correction)
    else:
        m = mask.float().unsqueeze(-1)
        total = m.sum(-2, keepdim=True).clamp_min(EPS)
        mean = (m * x).sum(-2, keepdim=True) / total
        freedom = (total - m.square().sum(-2, keepdim=True) / total).clamp_min(EPS)
        variance = (m * (x - mean).square()).sum(-2, keepdim=True) / freedom
    return Statistics(mean, torch.sqrt(variance + EPS))


def mix(parts: Sequence[tuple[Statistics, float]]) -> Statistics:
    """Means and deviations mixed by weight: the Wasserstein-2 barycentre of normal distributions in one
    dimension, which is what a channel is here. Weights sum to 1.
    """
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    mean = torch.stack([s.mean * w for s, w in parts]).sum(0)
    return Statistics(mean, torch.stack([s.deviation * w for s, w in parts]).sum(0))


def _affine(x: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """``x * gain + offset`` in fp32, rounded once to the type of ``x``. On CUDA halves are read and written
    once; elsewhere product and sum are rounded one by one, as ever.
    """
    out = torch.empty_like(x)
    if x.is_cuda and x.dtype in (torch.float16, torch.bfloat16):
        return torch.addcmul(offset, x, gain, out=out)
    return torch.add(x * gain, offset, out=out)


def adain(x: Tensor, target: Statistics, strength: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``x`` with the mean and deviation of ``target`` (equation 2).

    ``strength`` moves linearly from ``x`` (0) to the result (1). With a ``mask`` (..., N) the own statistics
    are those of the masked tokens, and each token moves as far as the mask says.
    """
    own = statistics(x, mask)
    gain = target.deviation / own.deviation
    # One affine map per row and channel: x * gain + offset, mixed with the identity.
    offset, gain = target.mean - own.mean * gain, gain - 1
    if mask is not None or strength != 1:
        moved = strength if mask is None else strength * mask.float().unsqueeze(-1)
        offset, gain = moved * offset, moved * gain
    return _affine(x, 1 + gain, offset)


def adain_regions(
    x: Tensor, targets: Sequence[tuple[Statistics, Tensor | float]], strength: float = 1.0
) -> Tensor:
    """AdaIN towards several references, each with a weight per token (..., N) or one for all: the sum of
    what each would change. Without regions, and weights that sum to 1, this is AdaIN to their `mix`.
    """
    moved = x.float()
    for target, weight in targets:
        mask = weight if isinstance(weight, Tensor) else x.new_full(x.shape[-2:-1], weight)
        moved = moved + (adain(x.float(), target, strength, mask) - x.float())
    return moved.to(x.dtype)
