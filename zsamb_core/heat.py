"""Numbers as colors over a picture."""

import torch
import torch.nn.functional as F
from torch import Tensor

# From cold to warm, lightness rising all the way, so that it reads in gray too.
COLORS = ((0.02, 0.02, 0.14), (0.30, 0.06, 0.44), (0.74, 0.20, 0.33), (0.97, 0.55, 0.10), (0.99, 0.97, 0.60))
OVER = 0.65  # how much of the color is seen over a picture


def colored(values: Tensor) -> Tensor:
    """(h, w) in 0..1, clamped, to (h, w, 3): linear between `COLORS`."""
    colors = torch.tensor(COLORS)
    at = values.float().clamp(0, 1) * (len(colors) - 1)
    low = at.long().clamp(max=len(colors) - 2)
    return torch.lerp(colors[low], colors[low + 1], (at - low)[..., None])


def heat_over(values: Tensor, picture: Tensor) -> Tensor:
    """``values`` (h, w) in 0..1 in color over ``picture`` (H, W, 3) in gray: (H, W, 3)."""
    size = (picture.shape[0], picture.shape[1])
    large = F.interpolate(values.float()[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    gray = (picture.float() @ torch.tensor([0.299, 0.587, 0.114]))[..., None]
    return torch.lerp(gray, colored(large), OVER)
