"""A model call of which only some pictures go through the model, and a ControlNet's residuals in it."""

from typing import Any

import torch

# In the options of a part's call: the pictures of the batch that it is of.
PART = "zsamb_part"


def part_of(values: Any, pictures: list[int], chunks: int, batch: int) -> Any:
    """Of (chunks * batch, ...) the rows of ``pictures`` in each chunk. Through lists and dicts; what has
    another number of rows, or none, stays as it is.
    """
    if isinstance(values, torch.Tensor):
        if not values.ndim or len(values) != chunks * batch:
            return values
        return values.unflatten(0, (chunks, batch))[:, pictures].flatten(0, 1)
    if isinstance(values, dict):
        return {key: part_of(value, pictures, chunks, batch) for key, value in values.items()}
    if isinstance(values, list):
        return [part_of(value, pictures, chunks, batch) for value in values]
    return values


def without_first(control: dict, chunks: int, batch: int) -> dict:
    """``control`` with residuals of zero for the first picture of each chunk."""

    def kept(residual: Any) -> Any:
        rows = chunks * batch
        if residual is None or len(residual) not in (1, rows):
            return residual
        keep = torch.ones(rows, device=residual.device, dtype=residual.dtype)
        keep[::batch] = 0
        return residual * keep.view(-1, *[1] * (residual.ndim - 1))

    return {key: [kept(residual) for residual in residuals] for key, residuals in control.items()}
