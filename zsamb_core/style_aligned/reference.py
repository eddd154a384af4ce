"""Style references: the trajectories of pictures through the noise levels, the conditionings that describe
them, and how much each counts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..finite import require_finite


@dataclass(frozen=True)
class Trajectory:
    """x(sigma) of one picture in the host's sigma space, where x = x0 + sigma * noise.

    ``sigmas`` (S,) ascending, ``points`` (S, C, h, w). Between nodes it is piecewise linear. DDIM's own
    trajectory is so too: one recorded at the inversion's nodes is exact in between, for any sampler and any
    schedule.

    Two things are for a picture that was drawn, whose first node is the picture itself, at sigma 0.
    ``fresh``: noise was added on the way, so two nodes' noises differ, and a straight line between them would
    pass through less noise than either has. ``noise`` (C, h, w): of deviation 1, that the picture goes on
    with beyond the last node.
    """

    sigmas: Tensor
    points: Tensor
    fresh: bool = False
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        if self.sigmas.ndim != 1 or len(self.sigmas) < 2 or len(self.sigmas) != len(self.points):
            raise ValueError(
                f"a path needs at least two nodes and one point per node, found {tuple(self.sigmas.shape)} "
                f"sigmas and {tuple(self.points.shape)} points"
            )
        if not bool((self.sigmas[1:] > self.sigmas[:-1]).all()):
            raise ValueError("a path's sigmas must rise strictly")
        if (self.fresh or self.noise is not None) and self.sigmas[0] != 0:
            raise ValueError("a path with noise of its own must start at the picture, at sigma 0")

    def to(self, device: torch.device) -> "Trajectory":
        """The same trajectory with its tensors on ``device``."""
        noise = None if self.noise is None else self.noise.to(device)
        return replace(self, sigmas=self.sigmas.to(device), points=self.points.to(device), noise=noise)

    def at(self, sigma: Tensor, offset: int = 0) -> Tensor:
        """The points at ``sigma`` (B,): (B, C, h, w). Beyond the last node it is the picture plus ``sigma``
        times its noise or, without such, the last segment's direction goes on; below the first node the
        first segment's does.

        ``offset`` k, as published, keeps the reference less noisy than its targets at the start. Nodes are
        counted from the noisiest: the first step gets node k, later ones node k + 1 until the trajectory has
        come down to it. A node at a foreign noise level keeps its variance-preserving form.
        """
        nodes, points = self.sigmas.to(sigma.device), self.points.to(sigma.device)
        s = sigma.float().contiguous()
        i = torch.searchsorted(nodes, s).clamp(1, len(nodes) - 1)
        part = ((s - nodes[i - 1]) / (nodes[i] - nodes[i - 1])).view(-1, 1, 1, 1)
        exact = torch.lerp(points[i - 1], points[i], part)
        if self.fresh:
            exact = _at_distance(points[0], exact, points[i - 1], points[i], part)
        if self.noise is not None:
            beyond = points[0] + s.view(-1, 1, 1, 1) * self.noise.to(s.device)
            exact = torch.where((s > nodes[-1]).view(-1, 1, 1, 1), beyond, exact)
        if not offset:
            return exact
        last = len(nodes) - 1
        later = torch.where(s > nodes[last - 1], last - offset, last - offset - 1)
        ratio = torch.sqrt((1 + s**2) / (1 + nodes[later] ** 2)).view(-1, 1, 1, 1)
        return torch.where((s > nodes[later]).view(-1, 1, 1, 1), points[later] * ratio, exact)


def _at_distance(x0: Tensor, x: Tensor, low: Tensor, high: Tensor, part: Tensor) -> Tensor:
    """``x`` (B, C, h, w) between ``low`` and ``high``, moved away from the picture ``x0`` until it is as far
    as they are, by ``part``. For noises that are one it is ``x``: then the distance grows along the line
    already. At ``part`` 1 it is ``x``, bit for bit.
    """

    def distance(points: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm((points - x0).flatten(1), dim=1)
        return norm.view(-1, 1, 1, 1)

    wanted = torch.lerp(distance(low), distance(high), part)
    return torch.where(part < 1, x0 + (x - x0) * (wanted / distance(x).clamp_min(1e-12)), x)


def noised_trajectory(x0: Tensor, noise: Tensor) -> Trajectory:
    """``x0 + sigma * noise``: the forward process on one fixed noise, with no model call. (C, h, w) each."""
    return Trajectory(torch.tensor([0.0, 1.0]), torch.stack([x0, x0 + noise]))


def recorded_trajectory(seen: list[tuple[float, Tensor, Tensor]], x0: Tensor, noise: Tensor) -> Trajectory:
    """The way that a sampler took. ``seen``: of each model call (sigma, x, denoised); ``x0``: what came out;
    ``noise``: what was drawn from. All are (C, h, w).

    The nodes are what the model saw. Where a sampler asks twice at one noise level, the later x is the
    corrected one. By DDIM's steps the lines between nodes are the sampler's own way; any other step may have
    added noise.
    """
    nodes = {0.0: (x0, x0)} | {sigma: (x, denoised) for sigma, x, denoised in seen if sigma > 0}
    sigmas = sorted(nodes)
    points = [nodes[s][0] for s in sigmas]
    by_ddim = (
        torch.lerp(nodes[high][1], nodes[high][0], low / high)
        for low, high in zip(sigmas[:-1], sigmas[1:], strict=True)
    )
    # A hundredth of a point that is noise would not be seen; rounding at high noise levels is far below.
    fresh = any(
        float((x - expected).norm()) > 0.01 * float(x.norm())
        for x, expected in zip(points[:-1], by_ddim, strict=True)
    )
    return Trajectory(torch.tensor(sigmas), torch.stack(points), fresh, noise)


@dataclass(frozen=True)
class Reference:
    """One picture to borrow style from. Conditionings are the host's own values, passed through untouched.

    ``weight`` is relative to the other references'; ``shift`` and ``scale`` left at None follow the share's;
    ``mask`` (1 or B, H, W), 0 to 1, says where in the targets it counts; ``offset`` see `Trajectory.at`.
    """

    trajectory: Trajectory
    positive: Any
    negative: Any
    weight: float = 1.0
    shift: float | None = None
    scale: float | None = None
    mask: Tensor | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or self.weight < 0:
            raise ValueError(f"a reference's weight is {self.weight}, expected 0 or more")
        nodes = len(self.trajectory.sigmas)
        if not 0 <= self.offset < nodes - 1:
            raise ValueError(
                f"a reference's offset is {self.offset}, expected 0 to {nodes - 2} for a path"
                f" of {nodes} nodes. Use a smaller offset, or a path with more steps; a"
                " noised reference takes none."
            )
        for name, number in (("score_shift", self.shift), ("score_scale", self.scale)):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"a reference's {name} is {number}, expected a number")
        if self.mask is not None:
            if self.mask.ndim != 3 or not self.mask.numel():
                raise ValueError(
                    f"a reference's mask has shape {tuple(self.mask.shape)}, expected (1 or batch, height,"
                    " width)"
                )
            require_finite(self.mask, "the mask input")

    @property
    def latent_shape(self) -> torch.Size:
        """(C, h, w)."""
        return self.trajectory.points.shape[1:]

    def to(self, device: torch.device) -> "Reference":
        """The same reference with its tensors on ``device``."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, trajectory=self.trajectory.to(device), mask=mask)


@dataclass(frozen=True)
class StyleReference:
    """What shared attention borrows style from: any number of references, their order without meaning."""

    references: tuple[Reference, ...]

    def counted(self) -> tuple[Reference, ...]:
        """Without those of weight 0, which are as if they were not there. Raises ValueError if none is
        left.
        """
        counting = tuple(r for r in self.references if r.weight > 0)
        if not counting:
            raise ValueError(
                f"the {len(self.references)} references all have weight 0, expected one above 0. To switch"
                " the reference off, set strength to 0."
            )
        return counting

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """What ComfyUI's cache counts when it looks for memory to free."""
        tensors: list[Tensor | None] = []
        for r in self.references:
            tensors += [r.trajectory.sigmas, r.trajectory.points, r.trajectory.noise, r.mask]
        return [tensor for tensor in tensors if tensor is not None]


def normalised_weights(references: tuple[Reference, ...], size: tuple[int, int]) -> list[float | Tensor]:
    """What each reference counts: one number, or with a mask one per row and pixel, (1 or B, h, w), at
    ``size``.

    Weights are divided by their largest total at any place, or by the largest weight if that is more. Without
    masks they sum to 1. References with separate regions count in full, each in its own. A mask of a half is
    half of its reference.
    """
    weighed: list[float | Tensor] = []
    for r in references:
        if r.mask is None:
            weighed.append(r.weight)
        else:
            mask = r.mask.float().clamp(0, 1)
            weighed.append(r.weight * F.interpolate(mask[:, None], size, mode="area")[:, 0])
    total: float | Tensor = 0.0
    for w in weighed:
        total = total + w
    most = float(total.max()) if isinstance(total, Tensor) else total
    most = max(most, *(r.weight for r in references))
    return [w / most for w in weighed]


def blended_trajectory(trajectories: list[Trajectory], blend: Callable[[Tensor], Tensor]) -> Trajectory:
    """At each node of any of ``trajectories``, and beyond them, ``blend`` of their points there: (n, C, h, w)
    to (C, h, w). Raises ValueError for trajectories of unlike sizes.
    """
    shapes = {tuple(t.points.shape[1:]) for t in trajectories}
    if len(shapes) > 1:
        raise ValueError(
            f"the references are of sizes {sorted(shapes)}, expected one. Make them of one size."
        )
    sigmas = torch.cat([t.sigmas for t in trajectories]).unique()
    at = [t.at(sigmas) for t in trajectories]
    points = torch.stack([blend(torch.stack(points)) for points in zip(*at, strict=True)])
    noise = None
    if any(t.noise is not None for t in trajectories):
        noise = blend(torch.stack([_direction(t) for t in trajectories]))
    return Trajectory(sigmas, points, any(t.fresh for t in trajectories), noise)


def _direction(trajectory: Trajectory) -> Tensor:
    """What a trajectory goes on with beyond its last node, per unit of sigma."""
    if trajectory.noise is not None:
        return trajectory.noise
    return (trajectory.points[-1] - trajectory.points[-2]) / (trajectory.sigmas[-1] - trajectory.sigmas[-2])
