"""Drawn pictures in memory, and random crops of them, for training the judges."""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F

from ..objects import OBJECTS
from ..styles import HELD_OUT, STYLES
from .latents import draw_group

OBJECT_NAMES = list(OBJECTS)


def draw_groups(named: int, random: int, seed: int, names=tuple(STYLES)) -> tuple[torch.Tensor, list[str]]:
    """(groups, objects, 3, 128, 128) uint8 and the groups' style names, "" for random ones; ``named`` groups
    of each of ``names``.
    """
    listed = [n for n in names for _ in range(named)] + [""] * random
    jobs = [(n, seed + i) for i, n in enumerate(listed)]
    with ProcessPoolExecutor() as pool:
        groups = np.stack(list(pool.map(draw_group, jobs, chunksize=8)))
    return torch.from_numpy(groups).permute(0, 1, 4, 2, 3).contiguous(), listed


def held_out_groups(count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Unseen drawings in all named styles and in the held-out ones."""
    return draw_groups(count, 0, seed, (*STYLES, *HELD_OUT))


def crops(pictures: torch.Tensor, low: float, high: float, size: int) -> torch.Tensor:
    """(B, 3, H, W) to (B, 3, size, size): of each a square of ``low`` to ``high`` of its area at a random
    place, mirrored or not.
    """
    b = len(pictures)
    side = torch.empty(b).uniform_(low, high).sqrt()
    shift = (1 - side)[:, None] * (2 * torch.rand(b, 2) - 1)
    mirror = torch.where(torch.rand(b) < 0.5, -1.0, 1.0)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, shift
    grid = F.affine_grid(theta, [b, 3, size, size], align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
