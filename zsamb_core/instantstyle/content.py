"""Removing the content of a style image from its embedding (InstantStyle, arXiv 2404.02733, section 3.2).

All act on pooled, projected CLIP embeddings (n, D), not normalized, before the adapter's projection;
``content`` (D,) lives in the same space. Nothing is taken from the unconditional embedding.
"""

import torch
import torch.nn.functional as F


def subtract(embeds: torch.Tensor, content: torch.Tensor, scale: float) -> torch.Tensor:
    """``e' = e - s t``, as published. At scale 0 ``embeds`` themselves."""
    return embeds if scale == 0 else embeds - scale * content


def project_out(embeds: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """``e' = e - (e . t / t . t) t``: nothing along the content's direction is left, and nothing else is
    touched, so there is no scale to choose. Raises ValueError for a ``content`` without a direction.
    """
    direction = _direction(content)
    e = embeds.double()
    return (e - (e @ direction)[:, None] * direction).to(embeds.dtype)


def mask_content(embeds: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Zero the elements in which image and content agree most, as in MaskST (arXiv 2502.07466): the products
    ``e_i t_i`` of the two, normalized, fall into two clusters, and the elements of the higher one are
    masked. The split is the best of all, by 2-means in one dimension. Where all products are one number,
    nothing stands out and nothing is masked. Raises ValueError for a ``content`` without a direction.
    """
    direction, rows = _direction(content), []
    for e in embeds:
        products = e.double() * direction  # the image's own norm does not move the split
        higher = (
            products >= split(products) if products.max() > products.min() else torch.zeros_like(e).bool()
        )
        rows.append(torch.where(higher, torch.zeros_like(e), e))
    return torch.stack(rows)


def split(values: torch.Tensor) -> float:
    """The smallest value of the higher of two clusters of ``values`` (n,), n at least 2, by 2-means: the cut
    of the sorted values that leaves the least squared distance to the two means.
    """
    ordered = values.double().sort().values
    n = len(ordered)
    low = torch.arange(1, n, dtype=torch.float64)
    sums = ordered.cumsum(0)
    # Least within the clusters is most between them.
    between = sums[:-1] ** 2 / low + (sums[-1] - sums[:-1]) ** 2 / (n - low)
    return float(ordered[int(between.argmax()) + 1])


def _direction(content: torch.Tensor) -> torch.Tensor:
    """``content`` at length 1, in fp64."""
    content = content.double()
    if not bool(content.isfinite().all()) or not content.any():
        raise ValueError("the content's embedding is zero or not a number, expected a direction to remove")
    content = content / content.abs().max()
    return F.normalize(content, dim=0)
