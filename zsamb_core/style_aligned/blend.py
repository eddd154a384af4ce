"""Blending of several references' latents by weight (Borgi, Maiano, Amerini: *Z-SASLM*, arXiv 2503.23234).

Each method takes latents (n, C, h, w) and their weights, which `counted` has normalized, and gives one
(C, h, w) in the latents' type; angles and norms are of the whole latent, in fp64. With one reference every
method gives that reference back, bit for bit.
"""

import math
from collections.abc import Callable, Sequence

import torch

Method = Callable[[torch.Tensor, Sequence[float]], torch.Tensor]
NEARLY = 1e-7  # radians; closer than this to parallel or opposite counts as that


def counted(weights: Sequence[float], references: int) -> list[float]:
    """``weights`` over their sum. Raises ValueError for another count than ``references``, for negative
    weights or ones that are not numbers, and where none counts.
    """
    if len(weights) != references:
        raise ValueError(f"there are {len(weights)} weights for {references} references, expected one each")
    if not all(math.isfinite(w) and w >= 0 for w in weights):
        raise ValueError(f"the weights are {_listed(weights)}, expected numbers of 0 or more")
    total = math.fsum(weights)
    if not 0 < total < math.inf:
        raise ValueError(f"the weights are {_listed(weights)}, expected one reference at least that counts")
    return [w / total for w in weights]


def blend(latents: torch.Tensor, weights: Sequence[float], method: Method) -> torch.Tensor:
    """(n, C, h, w) to (C, h, w). References of weight 0 are left out before anything is computed. Raises
    ValueError for bad weights, and for a result that is not finite from latents that are, which can happen
    with "as coded" alone.
    """
    shares = counted(weights, len(latents))
    counting = [i for i, w in enumerate(shares) if w > 0]
    if len(counting) == 1:
        return latents[counting[0]].clone()
    chosen = latents[counting]
    blended = method(chosen.double(), [shares[i] for i in counting])
    if not bool(blended.isfinite().all()) and bool(chosen.isfinite().all()):
        raise ValueError(
            "the blend has values that are not numbers, as the original code has for references that are"
            " alike or have flat rows. Use another method than as coded."
        )
    return blended.to(latents.dtype)


def linear(latents: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """``sum_i w_i z_i``. The norm shrinks: for n unrelated references of equal weight to ``1 / sqrt(n)``."""
    return _sum(weights, latents)


def variance_preserving(latents: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """``sum_i w_i z_i / sqrt(sum_i w_i^2)``: of independent unit Gaussians, as latents at the top noise level
    are, again one (Bodin et al., *Linear combinations of latents*, arXiv 2408.08558).
    """
    return _sum(weights, latents) / math.sqrt(math.fsum(w * w for w in weights))


def slerp(latents: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """The published spherical blend: ``sin((1-t) o) / sin(o) z_1 + sin(t o) / sin(o) z_2`` with
    ``t = w_2 / (w_1 + w_2)`` and o the angle between the two; more references are folded in one by one, each
    with its part of the weights so far. From three on the order counts. No blend of two is longer than the
    longer one, which the formula alone would be for nearly opposite latents of unlike norms.
    """
    blended, total = latents[0], weights[0]
    for z, w in zip(latents[1:], weights[1:], strict=True):
        total += w
        blended = _slerp(blended, z, w / total)
    return blended


def karcher(latents: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """The weighted Karcher (Frechet) mean of the directions, the point of the sphere with the least weighted
    sum of squared angles, at the weighted mean of the norms. It does not ask for an order, and of two
    references of one norm it is `slerp`.
    """
    flat = latents.flatten(1)
    norms = flat.norm(dim=1)
    norm = float((norms * norms.new_tensor(weights)).sum())
    pairs = [(z / n, w) for z, n, w in zip(flat, norms, weights, strict=True) if n > 0]
    if not pairs:
        return torch.zeros_like(latents[0])
    mean = _sum([w for _, w in pairs], torch.stack([u for u, _ in pairs]))
    if float(mean.norm()) < NEARLY:  # opposite directions: start from the one that counts most
        mean = max(pairs, key=lambda pair: pair[1])[0]
    mean = torch.nn.functional.normalize(mean, dim=0)
    total = math.fsum(w for _, w in pairs)
    for _ in range(100):
        step = _sum([w / total for _, w in pairs], torch.stack([_logarithm(mean, u) for u, _ in pairs]))
        length = float(step.norm())
        if length < 1e-13:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * step
        mean = torch.nn.functional.normalize(mean, dim=0)
    return (norm * mean).reshape(latents.shape[1:])


def as_coded(latents: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """What the authors' repository computes in place of `slerp`, to repeat its pictures: the first reference
    enters already multiplied by its weight, each further one with its raw weight as t, and angles are those
    of single rows of the latent, unguarded. Half and half becomes about 33 to 67.
    """
    blended = weights[0] * latents[0]
    for z, t in zip(latents[1:], weights[1:], strict=True):
        a, b = (x / x.norm(dim=-1, keepdim=True) for x in (blended, z))
        angle = (a * b).sum(-1, keepdim=True).acos()
        blended = (((1 - t) * angle).sin() * blended + (t * angle).sin() * z) / angle.sin()
    return blended


METHODS: dict[str, Method] = {
    "linear": linear,
    "slerp": slerp,
    "karcher": karcher,
    "variance preserving": variance_preserving,
    "as coded": as_coded,
}


def _sum(weights: Sequence[float], rows: torch.Tensor) -> torch.Tensor:
    return torch.einsum("n,n...->...", rows.new_tensor(weights), rows)


def _slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Between two latents. Parallel or zero ones go straight; opposite ones by way of a fixed direction."""
    norm_a, norm_b = float(a.norm()), float(b.norm())
    if norm_a == 0 or norm_b == 0:
        return (1 - t) * a + t * b
    u, v = a / norm_a, b / norm_b
    angle = _angle(u, v)
    if angle < NEARLY:
        return (1 - t) * a + t * b
    if math.pi - angle < NEARLY:
        turned = math.cos(t * math.pi) * u + math.sin(t * math.pi) * _perpendicular(u)
        return ((1 - t) * norm_a + t * norm_b) * turned
    between = (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
    # Of nearly opposite latents of unlike norms the formula grows without bound; the longer one is enough.
    return between * min(1.0, max(norm_a, norm_b) / max(float(between.norm()), 1e-300))


def _angle(u: torch.Tensor, v: torch.Tensor) -> float:
    """Between unit vectors, exact for near and opposite ones too (Kahan)."""
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))


def _perpendicular(u: torch.Tensor) -> torch.Tensor:
    """A unit vector perpendicular to ``u``, always the same."""
    flat = u.flatten()
    for other in (flat.roll(1), torch.arange(len(flat), dtype=u.dtype).cos().to(u.device)):
        rest = other - (other @ flat) * flat
        if float(rest.norm()) > 1e-3 * float(other.norm()):
            return torch.nn.functional.normalize(rest, dim=0).reshape(u.shape)
    return torch.zeros_like(u)  # a latent of one number has no room


def _logarithm(at: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The tangent at ``at`` that points to ``u`` and is as long as the angle between them."""
    angle = _angle(at, u)
    if angle < 1e-14:
        return torch.zeros_like(u)
    if math.pi - angle < NEARLY:
        return angle * _perpendicular(at)
    rest = u - (at @ u) * at
    return angle / float(rest.norm()) * rest


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{w:g}" for w in weights) or "none"
