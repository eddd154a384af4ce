"""Bringing pictures or latents of other sizes to one size."""

import torch
import torch.nn.functional as F

FITS = ("crop", "pad", "squash")


def fit(x: torch.Tensor, size: tuple[int, int], how: str, fill: float = 0.0) -> torch.Tensor:
    """(n, C, H, W) to (n, C, h, w) of ``size`` (h, w). "crop" scales until it covers and cuts the rest off
    evenly; "pad" scales until it fits in and puts ``fill`` around; "squash" changes the proportions.
    """
    h, w = size
    if tuple(x.shape[-2:]) == (h, w):
        return x
    if how == "squash":
        return _scaled(x, size)
    ratios = h / x.shape[-2], w / x.shape[-1]
    ratio = max(ratios) if how == "crop" else min(ratios)
    x = _scaled(x, (max(1, round(x.shape[-2] * ratio)), max(1, round(x.shape[-1] * ratio))))
    top, left = (h - x.shape[-2]) // 2, (w - x.shape[-1]) // 2
    # Negative padding cuts.
    return F.pad(x, (left, w - x.shape[-1] - left, top, h - x.shape[-2] - top), value=fill)


def _scaled(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(x, size, mode="bilinear", antialias=True)
