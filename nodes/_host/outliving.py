"""Tensors that are made inside a model's forward and kept beyond it.

Newer hosts record what a model's blocks allocate and use that memory again: what outlives a block must be
allocated while the recording pauses. Older hosts record nothing.
"""

from contextlib import nullcontext

import torch

try:
    from comfy.model_prefetch import pause_malloc_graph as outliving
except ImportError:
    outliving = nullcontext


def kept(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself or, where a host records allocations, a copy that it did not record."""
    if outliving is nullcontext:
        return x
    with outliving():
        return x.clone()
