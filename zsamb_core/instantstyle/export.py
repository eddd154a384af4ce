"""Writing a part of an IP-Adapter: only the chosen layers, or those and zeros for all others."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..files.whole_file import write_new
from ..layers import Layer, block_name
from .adapter_file import Adapter
from .blocks import adapter_keys
from .style_images import refuse_structure


def export_adapter(
    adapter: Adapter,
    structure: Mapping[Layer, int],
    chosen: Iterable[Layer],
    places: Path | Iterable[Path],
    padded: bool,
) -> Path:
    """The projector and the ``chosen`` layers of a model's ``structure``, in the h94 layout and as stored, at
    the first of ``places`` that is free; no file is replaced.

    ``padded``: every other layer is written with zeros. A value of zero adds nothing, so software that
    expects every layer draws the same with it. Raises ValueError for layers that the adapter lacks.
    """
    keys, chosen = adapter_keys(structure), set(chosen)
    if not chosen:
        raise ValueError("no layer has a weight, expected one block at least to save")
    refuse_structure(adapter, structure, sorted(chosen))
    numbers = sorted(keys[layer] for layer in chosen)
    names = [name for name in adapter.shapes if name.startswith("image_proj.")]
    names += [f"ip_adapter.{n}.to_{p}_ip.weight" for n in numbers for p in "kv"]
    tensors = {name: tensor.contiguous() for name, tensor in adapter.read(names)}
    if padded:
        dtype = tensors[names[-1]].dtype
        for layer, n in keys.items():
            if n not in numbers:
                for p in "kv":
                    shape = (structure[layer], adapter.projector.width)
                    tensors[f"ip_adapter.{n}.to_{p}_ip.weight"] = torch.zeros(shape, dtype=dtype)
    about = {"format": "pt", "blocks": json.dumps(sorted({block_name(layer.block) for layer in chosen}))}
    return write_new(places, lambda path: save_file(tensors, path, about))
