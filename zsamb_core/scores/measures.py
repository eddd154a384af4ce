"""Style scores from embeddings: of a set among itself, to references, and weighted over several of them.

Embeddings are rows (n, D) of any length; only their directions count. All sums are over n rows, not over
their pairs: the mean over pairs follows from the length of the summed directions.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F


def directions(embeds: torch.Tensor) -> torch.Tensor:
    """(n, D) at length 1, in fp64. Raises ValueError for rows without a direction."""
    if embeds.ndim != 2 or not len(embeds):
        raise ValueError(f"the embeddings are {tuple(embeds.shape)}, expected (images, channels)")
    rows = embeds.double()
    bad = ~(rows.isfinite().all(1) & rows.any(1))
    if bool(bad.any()):
        raise ValueError(f"the embedding of image {int(bad.nonzero()[0])} is zero or not a number")
    return F.normalize(rows, dim=1)


def set_consistency(embeds: torch.Tensor) -> float:
    """Mean cosine over all pairs of a set, as in StyleAligned (arXiv 2312.02133, section 5): the mean of the
    strict upper triangle of the cosine matrix, ``(|sum_i u_i|^2 - n) / (n (n - 1))``. Raises ValueError for
    fewer than two.
    """
    n = len(embeds)
    if n < 2:
        raise ValueError(f"the set has {n} image, expected two at least: consistency is of pairs")
    return float((directions(embeds).sum(0).square().sum() - n) / (n * (n - 1)))


def to_others(embeds: torch.Tensor) -> list[float]:
    """Each row's mean cosine to the other rows: ``(u_i . sum_j u_j - 1) / (n - 1)``. Their mean is the
    consistency; the lowest is the picture that falls out of the set. Raises ValueError for fewer than two.
    """
    n = len(embeds)
    if n < 2:
        raise ValueError(f"the set has {n} image, expected two at least: there are no others")
    rows = directions(embeds)
    return [float(x) for x in (rows @ rows.sum(0) - 1) / (n - 1)]


def cosines(embeds: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(n, m) cosines of all rows of one with all of the other. Raises ValueError for unlike channels."""
    if embeds.shape[-1] != others.shape[-1]:
        raise ValueError(
            f"the embeddings have {embeds.shape[-1]} and {others.shape[-1]} channels, expected one encoder's"
        )
    return directions(embeds) @ directions(others).T


def similarities(embeds: torch.Tensor, references: torch.Tensor) -> list[float]:
    """MS_i, the mean cosine of the set to each reference (Z-SASLM, arXiv 2503.23234)."""
    return [float(x) for x in cosines(embeds, references).mean(0)]


def weighted_multi_style(similarity: Sequence[float], weights: Sequence[float]) -> float:
    """``WMS = sum_i w_i MS_i`` with weights that sum to 1. It rewards the reference that is easier to be
    like, so read it beside `balance`.
    """
    return math.fsum(w * s for w, s in zip(weights, similarity, strict=True))


class Balance(NamedTuple):
    """``gains``: each similarity over its baseline; ``correlation`` of the gains with the weights, None where
    either does not vary: 1 where more weight is more likeness, evenly.
    """

    gains: tuple[float, ...]
    correlation: float | None


def balance(similarity: Sequence[float], weights: Sequence[float], baseline: Sequence[float]) -> Balance:
    """How far each reference's weight is seen in the set. ``baseline``: the similarities of the unblended
    set, without any reference.
    """
    gains = tuple(s - b for s, b in zip(similarity, baseline, strict=True))
    return Balance(gains, correlation(gains, weights))


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's, None where one side does not vary."""
    x, y = (torch.tensor([float(v) for v in side], dtype=torch.float64) for side in (a, b))
    x, y = x - x.mean(), y - y.mean()
    if float(x.abs().max()) < 1e-12 or float(y.abs().max()) < 1e-12:
        return None
    return max(-1.0, min(1.0, float(x @ y / (x.norm() * y.norm()))))
