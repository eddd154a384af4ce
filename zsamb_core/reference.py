"""A style reference: the path of one picture through the noise levels, and the conditioning that describes
it.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Path:
    """x(sigma) of one picture in the host's sigma space, where x = x0 + sigma * noise, piecewise linear
    between nodes.

    ``sigmas`` (S,) ascending, ``points`` (S, C, h, w). DDIM's own path is piecewise linear in sigma, so a
    path recorded at the inversion's nodes is exact in between, for any sampler and any schedule.
    """

    sigmas: Tensor
    points: Tensor

    def __post_init__(self) -> None:
        if self.sigmas.ndim != 1 or len(self.sigmas) < 2 or len(self.sigmas) != len(self.points):
            raise ValueError(
                f"a path needs at least two nodes and one point per node, found {tuple(self.sigmas.shape)} "
                f"sigmas and {tuple(self.points.shape)} points"
            )
        if not bool((self.sigmas[1:] > self.sigmas[:-1]).all()):
            raise ValueError("a path's sigmas must rise strictly")

    def at(self, sigma: Tensor) -> Tensor:
        """The points at ``sigma`` (B,): (B, C, h, w). Beyond the last node the last segment's direction
        goes on; below the first node the first segment's does.
        """
        nodes, points = self.sigmas.to(sigma.device), self.points.to(sigma.device)
        s = sigma.float().contiguous()
        i = torch.searchsorted(nodes, s).clamp(1, len(nodes) - 1)
        part = ((s - nodes[i - 1]) / (nodes[i] - nodes[i - 1])).view(-1, 1, 1, 1)
        return torch.lerp(points[i - 1], points[i], part)


@dataclass(frozen=True)
class StyleReference:
    """What shared attention borrows style from. Conditionings are the host's own values, passed through
    untouched.
    """

    path: Path
    positive: Any
    negative: Any

    @property
    def latent_shape(self) -> torch.Size:
        """(C, h, w)."""
        return self.path.points.shape[1:]

    def to(self, device: torch.device) -> "StyleReference":
        """The same reference with its path on ``device``."""
        path = Path(self.path.sigmas.to(device), self.path.points.to(device))
        return replace(self, path=path)
