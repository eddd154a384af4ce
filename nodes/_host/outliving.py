"""Tensors that are made inside a model's forward and kept beyond it.

Newer hosts record what a model's blocks allocate and use that memory again: what outlives a block must be
allocated while the recording pauses. Older hosts record nothing.
"""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def _pausing() -> Callable[[], AbstractContextManager[Any]]:
    """The host's context manager for it, by name: an import that older hosts refuse counts as a fault with
    those who check packs.
    """
    module = "comfy.model_prefetch"
    if importlib.util.find_spec(module) is None:
        return nullcontext
    return getattr(importlib.import_module(module), "pause_malloc_graph", nullcontext)


outliving = _pausing()


def kept(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself or, where a host records allocations, a copy that it did not record."""
    if outliving is nullcontext:
        return x
    with outliving():
        return x.clone()
