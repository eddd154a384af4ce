"""Shared self-attention: targets attend to their own tokens and to those of references (StyleAligned, Hertz
et al. 2024, section 4, equation 3).

Shapes: B rows, N tokens, H heads of width D; projected queries, keys and values arrive flat as (B, N, H * D).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import attention_lse, kernel_for

# (q, k, v, mask) to the attention's output, all (B, N, C); the mask is added to the logits, (B or 1, N, M) in
# q's type, or None.
Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Part(NamedTuple):
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


def plain_attention(heads: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's own; with its heads an `Attention`."""
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    return merge_heads(
        F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None])
    )


def merge_lse(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> None:
    """Attention over the union of two key sets from the attention over each, into ``out``.

    With ``w = sigmoid(other_lse - lse)`` it is ``(1 - w) * out + w * other``: exactly softmax over both
    sets, with no concatenated keys and no logit matrix. A shift of the other set's logits is a shift of its
    log-sum-exp. The union's log-sum-exp is the logaddexp of both.
    """
    w = torch.sigmoid(other_lse - lse).unsqueeze(-1)
    out.lerp_(other, w.to(out.dtype))


def shared_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Sequence[Part]],
    heads: int,
    whole: Attention | None = None,
    shares: list[Tensor] | None = None,
) -> Tensor:
    """Self-attention of targets over their own tokens and over references' (StyleAligned, equation 3, for
    any number of references).

    ``q`` (G, B, N, C), ``k, v`` (G, B, K, C): G groups of B targets, AdaIN already applied; ``parts[g]``:
    the references that the targets of group g share. One part with scale 1 and shift 0 is the paper's
    method; ``shift = ln m`` counts a reference m times. With ``whole`` that attention sees own and
    references' keys concatenated; else the attention over each is merged, where a kernel gives its
    log-sum-exp, and torch's own sees them all where none does. Returns (G, B, N, C).

    ``shares``, if given, gets for each group (B, N): the part of a query's attention, the softmax's mass,
    that goes to the group's references, as the mean over heads. It is ``1 - exp(own_lse - lse_of_all)``.
    """
    groups, rows, tokens, channels = q.shape
    q_own, k_own, v_own = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    if whole is not None or kernel_for(q_own, k_own) is None:
        whole = whole or partial(plain_attention, heads)
        return torch.stack([_concatenated(whole, q[g], k[g], v[g], parts[g], shares) for g in range(groups)])
    width = 1 / math.sqrt(channels // heads)
    out, lse = attention_lse(q_own, k_own, v_own, width)
    for g in range(groups):
        group = slice(g * rows, (g + 1) * rows)
        own_lse = None if shares is None else lse[group].clone()
        for i, part in enumerate(parts[g]):
            last = i + 1 == len(parts[g]) and shares is None
            _attend_part(out[group], lse[group], q[g], part, heads, width, last)
        if shares is not None and own_lse is not None:
            shares.append(-torch.expm1(own_lse - lse[group]).mean(1))
    return merge_heads(out).view(groups, rows, tokens, channels)


def _attend_part(
    out: Tensor, lse: Tensor, q: Tensor, part: Part, heads: int, width: float, last: bool
) -> None:
    """Merge the attention of one group's ``q`` (B, N, C) over ``part`` into ``out`` (B, H, N, D) and, but for
    the ``last``, into ``lse``. A function of its own frees one part's attention before the next one's is
    made.
    """
    rows, tokens, _ = q.shape
    # A group's targets ask the same reference: as one long row of queries they repeat no K or V.
    queries = split_heads(q.flatten(0, 1)[None], heads)
    k, v = split_heads(part.k[None], heads), split_heads(part.v[None], heads)
    other, other_lse = attention_lse(queries, k, v, width * part.scale)
    other = other.view(heads, rows, tokens, -1).transpose(0, 1)
    other_lse = other_lse.reshape(heads, rows, tokens).transpose(0, 1)
    if isinstance(part.shift, Tensor):
        other_lse = other_lse + part.shift.unsqueeze(1)
    elif part.shift:
        other_lse = other_lse + part.shift
    merge_lse(out, lse, other, other_lse)
    if not last:
        torch.logaddexp(lse, other_lse, out=lse)


def shared_by_all(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Sequence[Part]],
    heads: int,
    strength: float = 1.0,
    whole: Attention | None = None,
) -> Tensor:
    """Full attention share: every row of a group sees the tokens of all its rows (StyleAligned's ablation),
    and ``parts``. Shapes and ``whole`` as in `shared_attention`.

    At strength 1 a group is one long row with plain attention, as published. Below 1 the rows weigh ``(1 -
    strength) * own + strength * all``, here divided by the factor of own.
    """
    groups, rows, tokens, channels = q.shape
    if strength == 1:
        long = [
            [
                (
                    p._replace(shift=p.shift.expand(rows, -1).reshape(1, -1))
                    if isinstance(p.shift, Tensor)
                    else p
                )
                for p in group
            ]
            for group in parts
        ]
        q, k, v = (x.flatten(1, 2)[:, None] for x in (q, k, v))
        return shared_attention(q, k, v, long, heads, whole).view(groups, rows, tokens, channels)
    less = math.log(1 - strength)
    mixed = [
        [Part(k[g].flatten(0, 1), v[g].flatten(0, 1), math.log(strength) - less)]
        + [p._replace(shift=p.shift - less) for p in group]
        for g, group in enumerate(parts)
    ]
    return shared_attention(q, k, v, mixed, heads, whole)


def _concatenated(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parts: Sequence[Part],
    shares: list[Tensor] | None = None,
) -> Tensor:
    """One group, (B, N, C), by one attention over concatenated keys: for devices whose kernels do not return
    their log-sum-exp, and for attention of others' making. Without shifts it needs no mask. ``shares`` are
    then the attention over values that are 1 for the references' tokens and 0 for the own.
    """
    rows, tokens, _ = q.shape
    keys, values, bias = [k], [v], [q.new_zeros(1, 1, k.shape[1])]
    for part in parts:
        keys.append((part.k * part.scale).expand(rows, -1, -1))
        values.append(part.v.expand(rows, -1, -1))
        shift = part.shift if isinstance(part.shift, Tensor) else q.new_full((1, 1), part.shift)
        bias.append(shift[:, :, None].to(q.dtype).expand(-1, -1, len(part.k)))
    mask = None
    if any(isinstance(part.shift, Tensor) or part.shift for part in parts):
        most = max(b.shape[0] for b in bias)
        mask = torch.cat([b.expand(most, tokens, -1) for b in bias], -1)
    all_keys = torch.cat(keys, 1)
    if shares is not None:
        theirs = torch.zeros_like(all_keys)
        theirs[:, k.shape[1] :] = 1
        shares.append(attention(q, all_keys, theirs, mask).float().mean(-1))
    return attention(q, all_keys, torch.cat(values, 1), mask)
