"""The host's own attention, and whether a patched layer's attention is to be left to it.

A patched layer computes its own attention, by kernels that are exact and give their log-sum-exp. The host can
be told to use another attention: by a flag, or by a node that sets `optimized_attention_override`. Where that
attention may give other pictures than an exact one, it is a choice, and the layers keep to it: it gets own
and references' keys concatenated. Where it is exact it decides speed alone, and the pack's kernels stay,
where the device has one.
"""

from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention

from ....zsamb_core.style_aligned.attention import Attention
from ....zsamb_core.style_aligned.kernels import card, choose

OVERRIDE = "optimized_attention_override"
# The host's attention functions that compute the exact softmax. Any other is quantized, or not known.
EXACT = frozenset(
    f"attention_{name}" for name in ("pytorch", "flash", "xformers", "split", "sub_quad", "basic")
)


def others_choice(transformer_options: dict[str, Any]) -> str | None:
    """What the layers' attention is left to, in words; None where the pack's own kernels compute it."""
    if OVERRIDE in transformer_options:
        return f"the attention that another node has set ({OVERRIDE})"
    name = optimized_attention.__name__
    return None if name in EXACT else f"the host's {name}, which ComfyUI was started with"


def host_attention(
    extra: dict[str, Any],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The host's attention in the layer whose options are ``extra``: (B, N, C), with an override as the host
    calls it.
    """
    precision = extra["attn_precision"]
    whole = partial(optimized_attention, q, k, v, extra["n_heads"])
    if mask is None:
        return whole(attn_precision=precision, transformer_options=extra)
    return whole(mask, attn_precision=precision, transformer_options=extra)


def whole_attention(extra: dict[str, Any], q: torch.Tensor, k: torch.Tensor) -> Attention | None:
    """The host's attention where it is to see own and references' keys (..., N, C) at once; None where the
    attention over each is merged.
    """
    tokens = min(q.shape[-2], k.shape[-2])
    kernel = choose(card(q.device), q.dtype, q.shape[-1] // extra["n_heads"], tokens)
    merged = kernel is not None and others_choice(extra) is None
    return None if merged else partial(host_attention, extra)
