"""What the patched layers do in a model call: self-attention, and group normalization where it is shared."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.ops
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import get_attn_precision

from ....zsamb_core.layers import Layer
from ....zsamb_core.style_aligned.adain import Statistics, adain, adain_regions, mix, statistics
from ....zsamb_core.style_aligned.attention import Attention, Part, shared_attention, shared_by_all
from ....zsamb_core.style_aligned.group_norm import group_norm, group_statistics, pool
from ....zsamb_core.style_aligned.options import AdaIN
from ..outliving import for_keeps, outliving
from ..types import Model
from .call import CALL, LayerFeatures, Recording, Sharing
from .host_attention import host_attention, whole_attention

PROJECTIONS = ("queries", "keys", "values")


@torch.compiler.disable
def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]) -> Any:
    """attn1 replacement: projected queries, keys and values (rows, N, C) to the attention's output."""
    call = CALL.get()
    name, number = extra["block"]
    layer = Layer(name, number, extra["block_index"])

    plain = partial(host_attention, extra)
    if call is None:
        return plain(q, k, v)
    options = call.options if isinstance(call, Recording) else call.run.options
    if options.layers is not None and layer not in options.layers:
        return plain(q, k, v)
    if isinstance(call, Recording):
        # Tiling (HyperTile) cuts one picture's row into several.
        queries, keys, values = (x.reshape(len(call.rows), -1, x.shape[-1]) for x in (q, k, v))
        left_behind = layer_features(queries, keys, values, options.adain)
        for features, left in zip(call.rows, left_behind, strict=True):
            features.layers[layer] = left
        return plain(q, k, v)
    # Tiling (HyperTile) cuts a picture's queries into several rows, and the host's attention then reads its
    # keys in as many. Token merging leaves queries out. A chunk's rows stay together in both.
    if q.shape[0] % (call.chunks * call.rows) or k.shape[0] * k.shape[1] % q.shape[0]:
        return plain(q, k, v)
    k, v = (x.reshape(q.shape[0], -1, x.shape[-1]) for x in (k, v))
    dtype = q.dtype
    if get_attn_precision(extra["attn_precision"], dtype) == torch.float32:
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.unflatten(0, (call.chunks, -1)) for x in (q, k, v))
    share = by_groups if call.groups else shared
    return share(call, layer, q, k, v, extra, plain).flatten(0, 1).to(dtype)


def shared(call: Sharing, *args: Any) -> torch.Tensor:
    """(chunks, rows, N, C) as all pictures of the call count the references."""
    return (with_references if call.features else with_the_first)(call, *args)


def by_groups(
    call: Sharing,
    layer: Layer,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extra: dict[str, Any],
    plain: Attention,
) -> torch.Tensor:
    """(chunks, rows, N, C): the pictures of each group as if the whole call were at its strength."""
    out = torch.empty_like(q)
    tiles = q.shape[1] // call.rows  # a picture is several rows where it was tiled
    everyone = call.run.options.share is not None and call.run.options.share.everyone
    pictures = pictures_of(call)
    for rows, options in call.groups:
        leader = () if call.features or everyone or 0 in rows else (0,)
        seen = range(call.rows) if everyone and options.active else (*leader, *rows)
        at, taken = tiled(rows, tiles), tiled(seen, tiles)
        own = [x[:, taken] for x in (q, k, v)]
        if options.active:
            part = call._replace(
                run=replace(call.run, options=options),
                rows=len(seen),
                pictures=[pictures[row] for row in seen],
                groups=(),
            )
            drawn = shared(part, layer, *own, extra, plain)
        else:
            drawn = plainly(plain, call.chunks, *own)
            none = q.new_zeros(1, 1).expand(len(rows), q.shape[2])
            note_shares(call, layer, [pictures[row] for row in rows], [none] * call.chunks, extra)
        out[:, at] = drawn[:, [taken.index(row) for row in at]]
    return out


def pictures_of(call: Sharing) -> Sequence[int]:
    return call.pictures if call.pictures is not None else range(call.rows)


def plainly(plain: Attention, chunks: int, *qkv: torch.Tensor) -> torch.Tensor:
    """(chunks, rows, N, C): every row's attention to its own tokens alone."""
    q, k, v = (x.flatten(0, 1) for x in qkv)
    return plain(q, k, v, None).unflatten(0, (chunks, -1))


def tiled(rows: Iterable[int], tiles: int) -> list[int]:
    return [row * tiles + i for row in rows for i in range(tiles)]


def layer_features(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, wanted: AdaIN | None
) -> list[LayerFeatures]:
    """What the rows of references (R, M, C) leave behind, (M, C) each."""
    with outliving():
        of_rows = [
            statistics(x) if wanted is not None and getattr(wanted, name) else None
            for x, name in zip((q, k, v), PROJECTIONS, strict=True)
        ]
    return [
        LayerFeatures(
            for_keeps(k[i]),
            for_keeps(v[i]),
            *(None if s is None else Statistics(s.mean[i], s.deviation[i]) for s in of_rows),
        )
        for i in range(len(q))
    ]


def with_references(
    call: Sharing,
    layer: Layer,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extra: dict[str, Any],
    plain: Attention,
) -> torch.Tensor:
    """(chunks, rows, N, C): every row attends to its own tokens and to the references'."""
    options = call.run.options
    weights = token_weights(call, q, k, extra)
    features = [[f.layers[layer] for f in chunk] for chunk in call.features]
    if options.adain is not None:

        def towards(x: torch.Tensor, name: str, strength: float) -> torch.Tensor:
            targets = [[getattr(f, name) for f in chunk] for chunk in features]
            return towards_references(x, targets, weights, strength)

        q, k, v = normalized(q, k, v, options.adain, towards)
    if options.share is None:
        return plain(*(x.flatten(0, 1) for x in (q, k, v))).unflatten(0, (call.chunks, -1))
    parts = [
        [reference_part(call, j, f.k.to(k.dtype), f.v.to(v.dtype), weights[j]) for j, f in enumerate(chunk)]
        for chunk in features
    ]
    heads, whole = extra["n_heads"], whole_attention(extra, q, k)
    if options.share.everyone:
        return shared_by_all(q, k, v, parts, heads, options.share.strength, whole)
    shares: list[torch.Tensor] | None = None if call.listening is None else []
    out = shared_attention(q, k, v, parts, heads, whole, shares)
    note_shares(call, layer, pictures_of(call), shares, extra)
    return out


def note_shares(
    call: Sharing,
    layer: Layer,
    pictures: Sequence[int],
    shares: list[torch.Tensor] | None,
    extra: dict[str, Any],
) -> None:
    """Keep each chunk's ``shares`` (rows, N), rows being of ``pictures``, for the run's attention maps. Not
    where rows or tokens are others than the pictures' own, as in tiles.
    """
    if call.listening is None or shares is None:
        return
    h, w = extra["activations_shape"][-2:]
    maps, sigma = call.listening.maps, call.listening.sigma
    for chunk in call.listening.chunks:
        if shares[chunk].shape == (len(pictures), h * w):
            seen = shares[chunk].view(-1, h, w)
            with outliving():
                maps.buffer(sigma, layer.block, seen)
            maps.add(sigma, layer.block, pictures, seen)


def normalized(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    wanted: AdaIN,
    towards: Callable[[torch.Tensor, str, float], torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values, those that are ``wanted`` as ``towards`` makes them of tensor, name and
    strength.
    """
    return tuple(
        towards(x, name, wanted.strength) if getattr(wanted, name) else x
        for x, name in zip((q, k, v), PROJECTIONS, strict=True)
    )


def reference_part(call: Sharing, j: int, k: torch.Tensor, v: torch.Tensor, weight: Any) -> Part:
    """Reference j with its own shift and scale, or the share's; weight and strength are shifts too."""
    share, (own_shift, own_scale) = call.run.options.share, call.run.logits[j]
    assert share is not None
    shift = share.shift if own_shift is None else own_shift
    scale = share.scale if own_scale is None else own_scale
    shift += math.log(share.strength)
    log_weight = torch.log(weight) if isinstance(weight, torch.Tensor) else math.log(weight)
    return Part(k, v, log_weight + shift, scale)


def towards_references(x: torch.Tensor, targets: Any, weights: Any, strength: float) -> torch.Tensor:
    """AdaIN of (chunks, rows, N, C) towards each chunk's references."""
    weighed = [list(zip(chunk, weights, strict=True)) for chunk in targets]
    if any(isinstance(w, torch.Tensor) for w in weights):
        return torch.stack([adain_regions(x[c], chunk, strength) for c, chunk in enumerate(weighed)])
    mixed = [mix(chunk) for chunk in weighed]
    mean, deviation = (torch.stack([getattr(m, s) for m in mixed])[:, None] for s in ("mean", "deviation"))
    return adain(x, Statistics(mean, deviation), strength)


def token_weights(call: Sharing, q: torch.Tensor, k: torch.Tensor, extra: dict[str, Any]) -> list:
    """The references' weights; where one has a mask, per row and token, (1 or rows, N)."""
    run = call.run
    if not any(isinstance(w, torch.Tensor) for w in run.weights):
        return list(run.weights)
    h, w = extra["activations_shape"][-2:]
    if q.shape != k.shape or q.shape[1:3] != (call.rows, h * w):
        raise ValueError(
            f"SharedAttention Patch: a self-attention layer gets {q.shape[1]} rows of {q.shape[2]} tokens,"
            f" expected {call.rows} of {h * w}, because a reference has a mask. HyperTile and token merging"
            " move tokens about; leave them out, or leave the mask out."
        )
    weights = [
        x[call.pictures] if call.pictures is not None and isinstance(x, torch.Tensor) and len(x) > 1 else x
        for x in run.weights
    ]
    return [
        F.interpolate(x[:, None], (h, w), mode="area").flatten(1) if isinstance(x, torch.Tensor) else x
        for x in weights
    ]


def with_the_first(
    call: Sharing,
    layer: Layer,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extra: dict[str, Any],
    plain: Attention,
) -> torch.Tensor:
    """(chunks, rows, N, C) without references: the first picture is its chunk's reference. Its own attention
    is plain: sharing with itself would change nothing.
    """
    options, heads, whole = call.run.options, extra["n_heads"], whole_attention(extra, q, k)
    first = q.shape[1] // call.rows  # a picture is several rows where it was tiled
    lead, rest = (tuple(x[:, at] for x in (q, k, v)) for at in (slice(first), slice(first, None)))
    if options.adain is not None and q.shape[1] > first:
        of_lead = dict(zip(PROJECTIONS, lead, strict=True))

        def towards(x: torch.Tensor, name: str, strength: float) -> torch.Tensor:
            return adain(x, statistics(of_lead[name].flatten(1, 2)[:, None]), strength)

        rest = normalized(rest[0], rest[1], rest[2], options.adain, towards)
        if options.share is None or options.share.everyone:
            q, k, v = (torch.cat(both, 1) for both in zip(lead, rest, strict=True))
    if options.share is None:
        return plainly(plain, call.chunks, q, k, v)
    if options.share.everyone:
        return shared_by_all(q, k, v, [[] for _ in q], heads, options.share.strength, whole)
    own = plainly(plain, call.chunks, *lead)
    if q.shape[1] == first:
        return own
    shift = options.share.shift + math.log(options.share.strength)
    _, k_first, v_first = (x.flatten(1, 2) for x in lead)
    parts = [[Part(*kv, shift, options.share.scale)] for kv in zip(k_first, v_first, strict=True)]
    shares: list[torch.Tensor] | None = None if call.listening is None else []
    others = shared_attention(rest[0], rest[1], rest[2], parts, heads, whole, shares)
    note_shares(call, layer, pictures_of(call)[1:], shares, extra)
    return torch.cat([own, others], 1)


@torch.compiler.disable
def shared_group_norm(module: Any, path: str, x: torch.Tensor) -> torch.Tensor:
    """In place of a GroupNorm's forward while the patch is on: (rows, C, h, w)."""
    call = CALL.get()
    options = call.options if isinstance(call, Recording) else call.run.options if call else None
    if call is None or options is None or not options.group_norm:
        return type(module).forward(module, x)
    if isinstance(call, Recording):
        with outliving():
            own = group_statistics(x, module.num_groups)
        for i, features in enumerate(call.rows):
            features.norms[path] = own.of(slice(i, i + 1))
        return type(module).forward(module, x)
    own = group_statistics(x, module.num_groups)
    weight, bias, offload = comfy.ops.cast_bias_weight(module, x, offloadable=True)
    out = torch.empty_like(x)
    for rows, asked in call.groups or ((None, options),):
        for chunk in range(call.chunks):
            first = chunk * call.rows
            at = slice(first, first + call.rows) if rows is None else [first + row for row in rows]
            if asked.share is None:
                out[at] = type(module).forward(module, x[at])
                continue
            strength = asked.share.strength
            if call.features:
                others = [
                    (f.norms[path], w * strength)
                    for f, w in zip(call.features[chunk], call.run.mean_weights, strict=True)
                ]
            else:
                others = [(own.of(slice(first, first + 1)), strength)]
            out[at] = group_norm(x[at], pool(own.of(at), others), weight, bias, module.eps)
    comfy.ops.uncast_bias_weight(module, weight, bias, offload)
    return out


def group_norms(model: Model) -> dict[str, partial]:
    """By path in the model: what takes the place of each GroupNorm's forward."""
    return {
        f"diffusion_model.{name}.forward": partial(shared_group_norm, module, name)
        for name, module in model.model.diffusion_model.named_modules()
        if isinstance(module, torch.nn.GroupNorm)
    }
