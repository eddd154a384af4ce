"""One picture with its caption, and what a set of them offers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """``name`` for messages: a file, or shard and key. ``picture`` in RGB; ``latent`` (4, h, w) and ``embed``
    (features,) are cached ones, in the format they were kept in. ``size``: the original's (width, height);
    ``crop``: (top, left) that a cached latent was cut at, else (0, 0).
    """

    name: str
    caption: str
    picture: Image.Image | None
    latent: Tensor | None
    embed: Tensor | None
    size: tuple[int, int]
    crop: tuple[int, int] = (0, 0)


class Source(Protocol):
    """A set of n samples, read by index. ``sizes`` (n, 2) int32: width and height of the originals.
    ``groups`` (n,) int32: the style group of each, -1 for none; ``group_names`` by that number. ``digest``: a
    hash of what the set is, the same wherever it lies. ``cached``: latents and embeds are there, of
    ``latent_sizes`` (n, 2) in pixels; ``pictured``: pictures are. ``skipped``: "name: why" for each that is
    left out. ``notes``: what is there but may not be meant.
    """

    sizes: np.ndarray
    groups: np.ndarray
    group_names: list[str]
    digest: str
    cached: bool
    latent_sizes: np.ndarray | None
    pictured: bool
    skipped: list[str]
    notes: list[str]

    def __len__(self) -> int: ...

    def read(self, i: int, *, picture: bool = True, latent: bool = True) -> Sample:
        """``picture``, ``latent``: False leaves it out. Raises ValueError for a broken one, with its name."""
        ...
