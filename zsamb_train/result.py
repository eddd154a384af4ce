"""The adapter as a file: h94 names, fp16, only the trained blocks, and what it is in its metadata."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from zsamb_core.files.whole_file import write_over
from zsamb_core.layers import Layer, block_name

from .adapter import StyleAdapter


def write_adapter(
    place: Path,
    adapter: StyleAdapter,
    state: Mapping[str, torch.Tensor],
    layers: Iterable[Layer],
    about: Mapping[str, str],
) -> None:
    """``state``: the weights by our names, such as the moving averages. ``about``: more metadata."""
    names = adapter.file_names()
    tensors = {names[n]: value.detach().half().contiguous().cpu() for n, value in state.items()}
    blocks = sorted({block_name(layer.block) for layer in layers})
    metadata = {"format": "pt", "blocks": json.dumps(blocks)}
    metadata |= about
    place.parent.mkdir(parents=True, exist_ok=True)
    write_over(place, lambda path: save_file(tensors, path, metadata))
