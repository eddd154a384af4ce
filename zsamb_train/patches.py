"""An adapter's attention inside the UNet while it trains: the sum that StyleBlockIPAdapter draws with.

InstantStyle and IP-Adapter: ``out = attn(q, K_text, V_text) + attn(q, K_image, V_image)``. Every picture of
the batch has an image of its own, and gradients run into its keys and values.
"""

from collections.abc import Mapping
from typing import Any

import torch

from zsamb_core.layers import Layer

from .adapter import KeysAndValues
from .host import attend


class WithImage:
    """attn2 replacement of one layer: projected queries, keys and values (n, N, C) to the attention's
    output.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]
    ) -> torch.Tensor:
        image = attend(q, self.keys.to(q.dtype), self.values.to(q.dtype), extra)
        return attend(q, k, v, extra) + image


def with_images(made: KeysAndValues, numbers: Mapping[Layer, int], attention: Any) -> dict[str, Any]:
    """The host's options of one call. ``numbers``: of each trained layer in an adapter file; ``attention``:
    the override to train with.
    """
    attn2 = {tuple(layer): WithImage(*made[number]) for layer, number in numbers.items()}
    return {"patches_replace": {"attn2": attn2}, "optimized_attention_override": attention}


def plain(attention: Any) -> dict[str, Any]:
    """The host's options without an adapter."""
    return {"optimized_attention_override": attention}
