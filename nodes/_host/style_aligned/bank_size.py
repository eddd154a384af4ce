"""How much memory the references' features take, told before anything is loaded.

At 1024 px SDXL's 70 self-attention layers leave 104.9 million keys and as many values: 419 MB in half
precision for a reference with one prompt, 839 MB with both.
"""

import math
from typing import Any

from ....zsamb_core.layers import Layer
from ....zsamb_core.style_aligned.options import StyleOptions
from ..sdxl import self_attention
from ..types import Model
from .call import Run

PROMPTS = 2  # positive and negative


def tokens_of(layer: Layer, size: tuple[int, int]) -> int:
    """Of a latent of ``size`` (h, w) in a layer of SDXL's blocks, which are halved at every third block."""
    name, number = layer[:2]
    halvings = {"input": number // 3, "middle": 2, "output": 2 - number // 3}[name]
    h, w = size
    for _ in range(halvings):
        h, w = (h + 1) // 2, (w + 1) // 2
    return h * w


def bytes_of_features(
    widths: dict[Layer, int], options: StyleOptions, size: tuple[int, int], element: int
) -> int:
    """Of one reference of ``size`` with one prompt: keys and values of ``element`` bytes a number, and
    AdaIN's statistics in fp32. ``widths``: the self-attention layers'.
    """
    adain = options.adain
    wanted = 0 if adain is None else adain.queries + adain.keys + adain.values
    return sum(
        2 * tokens_of(layer, size) * width * element + 2 * wanted * width * 4
        for layer, width in widths.items()
        if options.layers is None or layer in options.layers
    )


def bytes_of_bank(model: Model, run: Run) -> int:
    """Of all that a run keeps of its references at a noise level. Shared group norms add some kilobytes."""
    sizes = [(int(r.latent_shape[-2]), int(r.latent_shape[-1])) for r in run.references]
    if not sizes and 0 < run.options.at_once < run.batch:
        sizes = [run.size]  # the first picture leaves as much, where it is the reference
    base: Any = model.model
    element = (base.manual_cast_dtype or base.get_dtype()).itemsize
    widths = self_attention(model)
    return PROMPTS * sum(bytes_of_features(widths, run.options, size, element) for size in sizes)


def rows_for(model: Model, size: Any, wanted: int) -> int:
    """The fewest rows of noise (C, h, w) for which the host sets aside ``wanted`` bytes."""
    of_one: float = model.model.memory_required([1, *size])
    return math.ceil(wanted / of_one)
