"""Shared self-attention with AdaIN on queries and keys (StyleAligned, Hertz et al. 2024, section 4,
equations 1 to 3).

Shapes: B rows, N tokens, H heads of width D; projected queries, keys and values arrive flat as (B, N, H * D).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5


def adain(x: Tensor, reference: Tensor, strength: float = 1.0) -> Tensor:
    """Adaptive instance normalisation over tokens, per row and channel (StyleAligned, equation 2; Huang &
    Belongie 2017).

    ``x`` (..., N, C) takes the mean and the unbiased standard deviation of ``reference`` (..., M, C), whose
    leading dimensions broadcast; statistics are taken in fp32. ``strength`` moves linearly from ``x`` (0)
    to the result (1). Channels are per head already, so a flat (N, H * D) layout gives the published
    per-head result.
    """
    x32, r32 = x.float(), reference.float()
    x_var, x_mean = torch.var_mean(x32, dim=-2, keepdim=True)
    r_var, r_mean = torch.var_mean(r32, dim=-2, keepdim=True)
    gain = torch.sqrt((r_var + EPS) / (x_var + EPS))
    # One affine map per row and channel: x * gain + offset, mixed with the identity by the strength.
    gain_mixed = 1 + strength * (gain - 1)
    offset = strength * (r_mean - x_mean * gain)
    return (x32 * gain_mixed + offset).to(x.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, H * D) to (B, H, N, D)."""
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) to (B, N, H * D)."""
    return x.transpose(1, 2).flatten(2)


def has_lse(q: Tensor) -> bool:
    """Whether torch has a fused attention kernel for ``q``'s device and dtype that also returns its
    log-sum-exp.
    """
    if q.device.type == "cpu":
        return q.dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    # ROCm calls itself cuda, but has these kernels on some cards only.
    return (
        q.device.type == "cuda"
        and torch.version.hip is None
        and q.dtype in (torch.float16, torch.bfloat16, torch.float32)
    )


def attention_lse(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Plain attention and the log-sum-exp of its logits: (B, H, N, D) and fp32 (B, H, N).

    Raises NotImplementedError where `has_lse` is false.
    """
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    elif has_lse(q):
        out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(
            q, k, v, None, compute_log_sumexp=True, scale=scale
        )[:2]
        lse = lse[:, :, : q.shape[2]]  # the kernel pads the token dimension
    else:
        raise NotImplementedError(
            f"no attention kernel that returns its log-sum-exp for {q.dtype} on {q.device.type}"
        )
    return out, lse.float()


def merge_lse(own: Tensor, own_lse: Tensor, other: Tensor, other_lse: Tensor, shift: float) -> Tensor:
    """Attention over the union of two key sets from the attention over each.

    With ``w = sigmoid(other_lse + shift - own_lse)`` the result is ``(1 - w) * own + w * other``: exactly
    softmax over both sets with ``shift`` added to the second set's logits, with no concatenated keys and no
    logit matrix.
    """
    w = torch.sigmoid(other_lse + shift - own_lse).unsqueeze(-1)
    return torch.lerp(own.float(), other.float(), w).to(own.dtype)


def shared_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_ref: Tensor,
    v_ref: Tensor,
    heads: int,
    shift: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Self-attention of targets over their own tokens and over one reference's (StyleAligned, equation 3).

    ``q, k, v`` (G, B, N, C): G groups of B targets, AdaIN already applied; ``k_ref, v_ref`` (G, M, C): the
    reference that the targets of a group share. ``scale`` multiplies the logits of the reference's tokens,
    ``shift`` is added to them; 1 and 0 are the paper's method, ``shift = ln m`` counts the reference m
    times. Returns (G, B, N, C).
    """
    groups, rows, tokens, channels = q.shape
    width = 1 / math.sqrt(channels // heads)
    q_own, k_own, v_own = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    if not has_lse(q):
        glued = _concatenated(q_own, k_own, v_own, k_ref, v_ref, heads, width, shift, scale)
        return glued.view(groups, rows, tokens, channels)
    out, lse = attention_lse(q_own, k_own, v_own, width)
    # All targets of a group ask the same reference, so their queries go as one long row: no K or V is
    # repeated.
    q_all = split_heads(q.flatten(1, 2), heads)
    other, other_lse = attention_lse(
        q_all, split_heads(k_ref, heads), split_heads(v_ref, heads), width * scale
    )
    other = other.unflatten(2, (rows, tokens)).transpose(1, 2).flatten(0, 1)
    other_lse = other_lse.unflatten(2, (rows, tokens)).transpose(1, 2).flatten(0, 1)
    return merge_heads(merge_lse(out, lse, other, other_lse, shift)).view(groups, rows, tokens, channels)


def _concatenated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_ref: Tensor,
    v_ref: Tensor,
    heads: int,
    width: float,
    shift: float,
    scale: float,
) -> Tensor:
    """The same by one fused kernel over concatenated keys, for devices whose kernels keep their
    log-sum-exp.
    """
    rows = q.shape[0] // k_ref.shape[0]
    k_ref, v_ref = (split_heads(x, heads).repeat_interleave(rows, 0) for x in (k_ref, v_ref))
    bias = None
    if shift:
        bias = torch.cat([q.new_zeros(1, k.shape[2]), q.new_full((1, k_ref.shape[2]), shift)], 1)
    return merge_heads(
        F.scaled_dot_product_attention(
            q, torch.cat([k, k_ref * scale], 2), torch.cat([v, v_ref], 2), attn_mask=bias, scale=width
        )
    )
