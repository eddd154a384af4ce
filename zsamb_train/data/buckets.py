"""Aspect buckets: few sizes of equal area, so that pictures of any shape make batches with little cut off."""

import numpy as np
import torch
from PIL import Image

LONGEST = 2.0  # the longer side by the shorter, as SDXL's common sizes have it
Size = tuple[int, int]


def buckets(resolution: int, step: int = 64) -> list[Size]:
    """(width, height) of each bucket, by aspect from tall to wide: multiples of ``step``, an area of
    ``resolution`` squared at most, aspects from 1:2 to 2:1. Raises ValueError where there are none.
    """
    if step < 8 or step % 8 or resolution < step:
        raise ValueError(
            f"buckets of {resolution} px in steps of {step}: the resolution is to be at least a step, and the"
            " step a multiple of 8, as the VAE has it. Give a larger resolution, or a smaller step."
        )
    found: dict[float, Size] = {}
    for width in range(step, int(resolution * LONGEST) + 1, step):
        height = min(resolution**2 // width, int(width * LONGEST)) // step * step
        if height * LONGEST < width:
            continue
        for size in ((width, height), (height, width)):
            aspect = size[0] / size[1]
            found[aspect] = max(found.get(aspect, (0, 0)), size)  # the larger of two of one shape
    return [found[aspect] for aspect in sorted(found)]


def nearest(sizes: np.ndarray, sides: list[Size]) -> np.ndarray:
    """The number of the bucket nearest in aspect, by ratio, for each of ``sizes`` (n, 2); ``sides`` as
    `buckets` gives them.
    """
    aspects = np.log([width / height for width, height in sides])
    own = np.log(sizes[:, 0].astype(np.float64) / sizes[:, 1])
    found: np.ndarray = np.searchsorted((aspects[1:] + aspects[:-1]) / 2, own).astype(np.int32)
    return found


def cover(
    picture: Image.Image, bucket: Size, rng: np.random.Generator | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """The picture resized until it covers the bucket, bilinear as published, and cut to it: in the middle, or
    where ``rng`` says. Returns that, and where it was cut: (top, left) in pixels of the resized picture, as
    SDXL is told it.
    """
    (width, height), (wide, high) = picture.size, bucket
    scale = max(wide / width, high / height)
    size = max(wide, round(width * scale)), max(high, round(height * scale))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    free = size[1] - high, size[0] - wide
    top, left = (n // 2 if rng is None else int(rng.integers(n + 1)) for n in free)
    return picture.crop((left, top, left + wide, top + high)), (top, left)


def levels(picture: Image.Image) -> torch.Tensor:
    """(3, h, w) uint8 of an RGB picture."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def in_range(pixels: torch.Tensor) -> torch.Tensor:
    """Levels from 0 to 255, of any shape, as the VAE wants them: float32 from -1 to 1."""
    return pixels.float() / 127.5 - 1


def fit(
    picture: Image.Image, bucket: Size, rng: np.random.Generator | None = None
) -> tuple[torch.Tensor, tuple[int, int]]:
    """`cover` as a tensor (3, h, w) from -1 to 1, and (top, left)."""
    cut, crop = cover(picture, bucket, rng)
    return in_range(levels(cut)), crop
