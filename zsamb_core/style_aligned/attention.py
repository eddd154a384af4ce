"""Shared self-attention: targets attend to their own tokens and to those of references (StyleAligned, Hertz
et al. 2024, section 4, equation 3).

Shapes: B rows, N tokens, H heads of width D; projected queries, keys and values arrive flat as (B, N, H * D).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One reference in one layer: ``k, v`` (M, C), and what is done to the logits of its tokens.

    ``scale`` multiplies them, ``shift`` is added to them: one number, or one per row and query, (B or 1, N).
    A weight w is a shift of ln w, a mask likewise; minus infinity leaves the part out.
    """

    k: Tensor
    v: Tensor
    shift: float | Tensor = 0.0
    scale: float = 1.0


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, H * D) to (B, H, N, D)."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) to (B, N, H * D)."""
    return x.transpose(1, 2).flatten(2)


def _cpu(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    return out, lse


def _efficient(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, None, compute_log_sumexp=True, scale=scale
    )[:2]
    return out, lse[:, :, : q.shape[2]]  # the kernel pads the token dimension


class Kernel(NamedTuple):
    """A fused attention kernel of torch that also returns the log-sum-exp of its logits.

    ``takes`` (device type, dtype, whether torch is built for ROCm) says where it runs; ``call`` (q, k, v,
    scale) gives the output and the log-sum-exp.
    """

    name: str
    takes: Callable[[str, torch.dtype, bool], bool]
    call: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


_HALVES_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)
KERNELS = (
    Kernel(
        "flash for CPU",
        lambda device, dtype, _: device == "cpu" and dtype in (*_HALVES_AND_SINGLE, torch.float64),
        _cpu,
    ),
    Kernel(
        "memory-efficient",
        # ROCm calls itself cuda, but has this kernel on some cards only.
        lambda device, dtype, rocm: device == "cuda" and not rocm and dtype in _HALVES_AND_SINGLE,
        _efficient,
    ),
)


def kernel_for(device: str, dtype: torch.dtype, rocm: bool | None = None) -> Kernel | None:
    """The first of `KERNELS` that takes them; None where torch has none. ``rocm``: this torch's own if not
    given.
    """
    rocm = torch.version.hip is not None if rocm is None else rocm
    return next((kernel for kernel in KERNELS if kernel.takes(device, dtype, rocm)), None)


def attention_lse(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Plain attention and the log-sum-exp of its logits: (B, H, N, D) and fp32 (B, H, N).

    Raises NotImplementedError where no kernel returns it.
    """
    kernel = kernel_for(q.device.type, q.dtype)
    if kernel is None:
        raise NotImplementedError(
            f"no attention kernel that returns its log-sum-exp for {q.dtype} on {q.device.type}"
        )
    out, lse = kernel.call(q, k, v, scale)
    return out, lse.float()


def merge_lse(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> Tensor:
    """Attention over the union of two key sets from the attention over each; ``out`` is overwritten.

    With ``w = sigmoid(other_lse - lse)`` it is ``(1 - w) * out + w * other``: exactly softmax over both
    sets, with no concatenated keys and no logit matrix. A shift of the other set's logits is a shift of its
    log-sum-exp. Returns the union's log-sum-exp.
    """
    w = torch.sigmoid(other_lse - lse).unsqueeze(-1)
    out.lerp_(other, w.to(out.dtype))
    return torch.logaddexp(lse, other_lse)


def shared_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Sequence[Part]],
    heads: int,
    shares: list[Tensor] | None = None,
) -> Tensor:
    """Self-attention of targets over their own tokens and over references' (StyleAligned, equation 3, for
    any number of references).

    ``q`` (G, B, N, C), ``k, v`` (G, B, K, C): G groups of B targets, AdaIN already applied; ``parts[g]``:
    the references that the targets of group g share. One part with scale 1 and shift 0 is the paper's
    method; ``shift = ln m`` counts a reference m times. Returns (G, B, N, C).

    ``shares``, if given, gets for each group (B, N): the part of a query's attention, the softmax's mass,
    that goes to the group's references, as the mean over heads. It is ``1 - exp(own_lse - lse_of_all)``.
    """
    groups, rows, tokens, channels = q.shape
    width = 1 / math.sqrt(channels // heads)
    q_own, k_own, v_own = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    if kernel_for(q.device.type, q.dtype) is None:
        at = [slice(g * rows, (g + 1) * rows) for g in range(groups)]
        return torch.stack(
            [
                _concatenated(q_own[s], k_own[s], v_own[s], parts[g], heads, width, shares)
                for g, s in enumerate(at)
            ]
        )
    out, lse = attention_lse(q_own, k_own, v_own, width)
    for g in range(groups):
        group = slice(g * rows, (g + 1) * rows)
        own_lse = lse[group]
        for part in parts[g]:
            own_lse = _attend_part(out[group], own_lse, q[g], part, heads, width)
        if shares is not None:
            shares.append(-torch.expm1(lse[group] - own_lse).mean(1))
    return merge_heads(out).view(groups, rows, tokens, channels)


def _attend_part(out: Tensor, lse: Tensor, q: Tensor, part: Part, heads: int, width: float) -> Tensor:
    """Merge the attention of one group's ``q`` (B, N, C) over ``part`` into ``out`` (B, H, N, D), and return
    the union's log-sum-exp. A function of its own frees one part's attention before the next one's is made.
    """
    rows, tokens, _ = q.shape
    # A group's targets ask the same reference: as one long row of queries they repeat no K or V.
    queries = split_heads(q.flatten(0, 1)[None], heads)
    k, v = split_heads(part.k[None], heads), split_heads(part.v[None], heads)
    other, other_lse = attention_lse(queries, k, v, width * part.scale)
    other = other.view(heads, rows, tokens, -1).transpose(0, 1)
    other_lse = other_lse.reshape(heads, rows, tokens).transpose(0, 1)
    shift = part.shift.unsqueeze(1) if isinstance(part.shift, Tensor) else part.shift
    return merge_lse(out, lse, other, other_lse + shift)


def shared_by_all(
    q: Tensor, k: Tensor, v: Tensor, parts: Sequence[Sequence[Part]], heads: int, strength: float = 1.0
) -> Tensor:
    """Full attention share: every row of a group sees the tokens of all its rows (StyleAligned's ablation),
    and ``parts``. Shapes as in `shared_attention`.

    At strength 1 a group is one long row with plain attention, as published. Below 1 the rows weigh ``(1 -
    strength) * own + strength * all``, here divided by the factor of own.
    """
    groups, rows, tokens, channels = q.shape
    if strength == 1:
        long = [
            [
                (
                    replace(p, shift=p.shift.expand(rows, -1).reshape(1, -1))
                    if isinstance(p.shift, Tensor)
                    else p
                )
                for p in group
            ]
            for group in parts
        ]
        q, k, v = (x.flatten(1, 2)[:, None] for x in (q, k, v))
        return shared_attention(q, k, v, long, heads).view(groups, rows, tokens, channels)
    less = math.log(1 - strength)
    mixed = [
        [Part(k[g].flatten(0, 1), v[g].flatten(0, 1), math.log(strength) - less)]
        + [replace(p, shift=p.shift - less) for p in group]
        for g, group in enumerate(parts)
    ]
    return shared_attention(q, k, v, mixed, heads)


def _concatenated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Part],
    heads: int,
    width: float,
    shares: list[Tensor] | None = None,
) -> Tensor:
    """One group by one fused kernel over concatenated keys, (B, H, N, D) to (B, N, C): for devices whose
    kernels do not return their log-sum-exp. ``shares`` are then the attention over values that are 1 for the
    references' tokens and 0 for the own.
    """
    rows, tokens = q.shape[0], q.shape[2]
    keys, values, bias = [k], [v], [q.new_zeros(1, 1, 1, k.shape[2])]
    for part in parts:
        keys.append(split_heads((part.k * part.scale)[None], heads).expand(rows, -1, -1, -1))
        values.append(split_heads(part.v[None], heads).expand(rows, -1, -1, -1))
        shift = part.shift if isinstance(part.shift, Tensor) else q.new_full((1, 1), part.shift)
        bias.append(shift[:, None, :, None].to(q.dtype).expand(-1, -1, -1, len(part.k)))
    mask = None
    if any(isinstance(part.shift, Tensor) or part.shift for part in parts):
        most = max(b.shape[0] for b in bias)
        mask = torch.cat([b.expand(most, -1, tokens, -1) for b in bias], -1)
    all_keys = torch.cat(keys, 2)
    if shares is not None:
        theirs = torch.zeros_like(all_keys)
        theirs[:, :, k.shape[2] :] = 1
        share = F.scaled_dot_product_attention(q, all_keys, theirs, attn_mask=mask, scale=width)
        shares.append(share[..., 0].float().mean(1))
    return merge_heads(
        F.scaled_dot_product_attention(q, all_keys, torch.cat(values, 2), attn_mask=mask, scale=width)
    )
