"""Removing the content of a style image from its embedding (InstantStyle, arXiv 2404.02733, section 3.2).

All act on pooled, projected CLIP embeddings (n, D), not normalised, before the adapter's projection;
``content`` (D,) lives in the same space. Nothing is taken from the unconditional embedding.
"""

import torch


def subtract(embeds: torch.Tensor, content: torch.Tensor, scale: float) -> torch.Tensor:
    """``e' = e - s t``, as published. At scale 0 ``embeds`` themselves."""
    return embeds if scale == 0 else embeds - scale * content


def project_out(embeds: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """``e' = e - (e . t / t . t) t``: nothing along the content's direction is left, and nothing else is
    touched, so there is no scale to choose. Raises ValueError for a zero ``content``.
    """
    _refuse_zero(content)
    return embeds - (embeds @ content)[:, None] / (content @ content) * content


def mask_content(embeds: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Zero the elements in which image and content agree most, as in MaskST (arXiv 2502.07466): the products
    ``e_i t_i`` of the two, normalised, fall into two clusters, and the elements of the higher one are
    masked. The split is the best of all, by 2-means in one dimension. Raises ValueError for a zero
    ``content``.
    """
    _refuse_zero(content)
    rows = []
    for e in embeds:
        products = e / e.norm().clamp(min=1e-12) * (content / content.norm())
        rows.append(torch.where(products >= split(products), torch.zeros_like(e), e))
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
    return float(values.sort().values[int(between.argmax()) + 1])


def _refuse_zero(content: torch.Tensor) -> None:
    if not content.any():
        raise ValueError("the content's embedding is zero, expected a direction to remove")
