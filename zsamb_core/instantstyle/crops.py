"""How a picture becomes the square that an image encoder sees."""

import math
from collections.abc import Sequence

import torch

CROPS = ("centre", "pad", "squash", "tiles")


def pad_to_square(images: torch.Tensor, color: Sequence[float]) -> torch.Tensor:
    """(n, h, w, 3) in the middle of a square of the longer side, the rest in ``color``: the encoder's mean
    color there is a zero for it.
    """
    n, h, w, channels = images.shape
    side = max(h, w)
    square = torch.tensor(color, dtype=images.dtype).to(images.device).expand(n, side, side, channels).clone()
    top, left = (side - h) // 2, (side - w) // 2
    square[:, top : top + h, left : left + w] = images
    return square


def tiles(images: torch.Tensor) -> torch.Tensor:
    """(n, h, w, 3) to (n * t, side, side, 3): squares of half the shorter side, as few as cover the picture,
    at even distances. The first t are the first picture's.
    """
    _, h, w, _ = images.shape
    side = (min(h, w) + 1) // 2
    cut = [
        images[:, top : top + side, left : left + side]
        for top in _starts(h, side)
        for left in _starts(w, side)
    ]
    return torch.stack(cut, 1).flatten(0, 1)


def _starts(length: int, side: int) -> list[int]:
    count = math.ceil(length / side)
    return [round(i * (length - side) / max(1, count - 1)) for i in range(count)]
