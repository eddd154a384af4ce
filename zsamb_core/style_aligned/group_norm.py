"""Group normalization with statistics shared between a picture and its references.

StyleAligned's published code shares normalization layers by concatenating the reference to each picture,
normalizing, and cutting it off again. For group normalization that pools the statistics of both, which is
done here in closed form. For layer normalization it does nothing at all: that normalizes over the channels
of each token, so that more tokens change no token's result. There is therefore no layer-norm sharing here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class GroupStatistics(NamedTuple):
    """Mean and biased variance of each group of channels over all pixels, fp32 (B, groups); ``pixels`` that
    each was taken over.
    """

    mean: Tensor
    variance: Tensor
    pixels: int

    def of(self, rows: slice | list[int]) -> "GroupStatistics":
        return GroupStatistics(self.mean[rows], self.variance[rows], self.pixels)


def group_statistics(x: Tensor, groups: int) -> GroupStatistics:
    """Of ``x`` (B, C, h, w)."""
    variance, mean = torch.var_mean(x.float().view(len(x), groups, -1), dim=-1, correction=0)
    return GroupStatistics(mean, variance, x.shape[-2] * x.shape[-1])


def pool(own: GroupStatistics, others: Sequence[tuple[GroupStatistics, float]]) -> GroupStatistics:
    """Statistics of the union of a picture's pixels and of each reference's, a reference counting ``weight``
    times. The variance is within plus between, which does not cancel as E[x^2] - E[x]^2 does.
    """
    parts = [(own, float(own.pixels)), *((s, w * s.pixels) for s, w in others)]
    total = sum(size for _, size in parts)
    mean = torch.zeros_like(own.mean)
    for s, size in parts:
        mean = mean + s.mean * (size / total)
    variance = torch.zeros_like(mean)
    for s, size in parts:
        variance = variance + (s.variance + (s.mean - mean).square()) * (size / total)
    return GroupStatistics(mean, variance, own.pixels)


def group_norm(x: Tensor, statistics: GroupStatistics, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group normalization of ``x`` (B, C, h, w) with statistics from elsewhere, as one affine map per row
    and channel.
    """
    per_group = x.shape[1] // statistics.mean.shape[1]
    spread = torch.rsqrt(statistics.variance + eps).repeat_interleave(per_group, 1) * weight.float()
    offset = bias.float() - statistics.mean.repeat_interleave(per_group, 1) * spread
    return torch.addcmul(offset[..., None, None], x.float(), spread[..., None, None]).to(x.dtype)
