"""Shared attention inside the host's model call.

Three hooks, all on the clone, none of them touching a module:

- an OUTER_SAMPLE wrapper checks sizes and encodes the reference's conditioning once per run;
- an APPLY_MODEL wrapper appends the reference as one more row to each chunk the host sends, at that call's
  own sigma, and strips it from the result, so any sampler and any splitting of cond and uncond give the same
  picture;
- attn1 replacements share attention on projected tensors. Their keys are 2-tuples, so that PAG and SAG keep
  their places.
"""

from dataclasses import dataclass, field, replace
from uuid import uuid4

import torch
from comfy.conds import CONDCrossAttn
from comfy.ldm.modules.attention import get_attn_precision, optimized_attention
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import convert_cond
from comfy.samplers import encode_model_conds

from ...zsamb_core.attention import adain, shared_attention
from ...zsamb_core.options import StyleOptions
from ...zsamb_core.reference import StyleReference
from .sdxl import attention_blocks, require_sdxl

OPTIONS = "zsamb_style_options"
RUN = "zsamb_style_run"
LAYOUT = "zsamb_style_layout"


@dataclass(frozen=True)
class Run:
    """One sampling run: what to do, the pictures in its batch, the reference's encoded conditioning, and
    which cond entry bears which name.
    """

    options: StyleOptions
    batch: int
    conds: dict
    names: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Rows of one model call: ``chunks`` times (``rows`` of the host's + ``extra`` reference rows)."""

    chunks: int
    rows: int
    extra: int


def style_options(model) -> StyleOptions:
    return model.model_options["transformer_options"].get(OPTIONS, StyleOptions())


def with_style(model, node: str, **changes):
    """A clone of ``model`` whose style options take ``changes``; ``model`` itself is left as it was.

    Raises ValueError for a model that is not SDXL-shaped, or whose self-attention another pack has replaced.
    """
    require_sdxl(model, node)
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    if OPTIONS not in options:
        blocks = attention_blocks(clone)
        refuse_foreign_attention(options, blocks, node)
        for name, number in blocks:
            clone.set_model_attn1_replace(attend, name, number)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, OPTIONS, prepare_run)
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, OPTIONS, name_entries)
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, OPTIONS, count_reference_row)
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, OPTIONS, add_reference_rows)
    clone.model_options["transformer_options"] = {
        **clone.model_options["transformer_options"],
        OPTIONS: replace(style_options(clone), **changes),
    }
    return clone


def refuse_foreign_attention(transformer_options: dict, blocks, node: str) -> None:
    """Raises ValueError where another node has replaced self-attention: only one replacement can have a
    block.
    """
    taken = transformer_options.get("patches_replace", {}).get("attn1", {})
    clash = sorted(key for key, patch in taken.items() if tuple(key[:2]) in blocks and patch is not attend)
    if clash:
        raise ValueError(
            f"{node}: another node replaces the model's self-attention in {clash}, expected none."
            " Self-Attention Guidance is one such node. Use one or the other on this model."
        )


def without_style(model):
    """A clone of ``model`` whose style options are switched off."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    if OPTIONS in options:
        clone.model_options["transformer_options"] = {**options, OPTIONS: StyleOptions()}
    return clone


def prepare_run(executor, noise, latent_image, *args, **kwargs):
    """OUTER_SAMPLE wrapper: before anything is loaded, check what is asked and encode the reference's
    conditioning.
    """
    guider = executor.class_obj
    model, transformer_options = guider.model_patcher, guider.model_options["transformer_options"]
    options = transformer_options.get(OPTIONS, StyleOptions()).resolved()
    if options.active:
        refuse_foreign_attention(transformer_options, attention_blocks(model), "SharedAttention Patch")
        conds = {}
        if options.reference is not None:
            check_size(options.reference, noise)
            conds = encode_reference(model, options.reference, noise)
            options = replace(options, reference=options.reference.to(model.load_device))
        run = Run(options, batch=noise.shape[0], conds=conds)
        # The guider's model options are this run's own copy; the host puts the originals back afterwards.
        guider.model_options["transformer_options"] = {**transformer_options, RUN: run}
    return executor(noise, latent_image, *args, **kwargs)


def name_entries(executor, guider, sigmas, extra_args, *args, **kwargs):
    """SAMPLER_SAMPLE wrapper: note which cond entry bears which name, now that the host has processed them.

    For area prompts the host copies a positive entry into the negative, identity and all; the copy gets an
    identity of its own.
    """
    model_options = extra_args["model_options"]
    transformer_options = model_options["transformer_options"]
    run = transformer_options.get(RUN)
    if run is not None:
        names: dict = {}
        for name, entries in guider.conds.items():
            for i, entry in enumerate(entries):
                if names.get(entry["uuid"], name) != name:
                    entries[i] = entry = {**entry, "uuid": uuid4()}
                names[entry["uuid"]] = name
        transformer_options = {**transformer_options, RUN: replace(run, names=names)}
        extra_args = {
            **extra_args,
            "model_options": {**model_options, "transformer_options": transformer_options},
        }
    return executor(guider, sigmas, extra_args, *args, **kwargs)


def count_reference_row(executor, model, noise_shape, *args, model_options=None, **kwargs):
    """PREPARE_SAMPLING wrapper: the memory estimate must know of the row that a reference adds."""
    run = (model_options or {}).get("transformer_options", {}).get(RUN)
    if run is not None and run.options.reference is not None:
        noise_shape = [noise_shape[0] + 1, *noise_shape[1:]]
    return executor(model, noise_shape, *args, model_options=model_options, **kwargs)


def check_size(reference: StyleReference, noise: torch.Tensor) -> None:
    found, expected = tuple(noise.shape[1:]), tuple(reference.latent_shape)
    if found != expected:
        raise ValueError(
            f"SharedAttention Patch: the latent being sampled is {found[2] * 8} x {found[1] * 8} pixels with"
            f" {found[0]} channels, expected {expected[2] * 8} x {expected[1] * 8} with {expected[0]}, the"
            " size of the reference. Give Empty Latent Image that size, or resize the reference picture"
            " before VAE Encode and invert it again."
        )


def encode_reference(model, reference: StyleReference, noise: torch.Tensor) -> dict[str, dict]:
    """The model-ready conditioning of the reference row, by name: the first entry of each CONDITIONING
    counts.
    """
    conds = {}
    for name, conditioning in (("positive", reference.positive), ("negative", reference.negative)):
        encoded = encode_model_conds(
            model.model.extra_conds,
            convert_cond(conditioning[:1]),
            noise[:1],
            model.load_device,
            name,
            latent_image=torch.zeros_like(noise[:1]),  # an inpainting model gets the host's blank picture
        )
        conds[name] = encoded[0]["model_conds"]
    return conds


def add_reference_rows(
    executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs
):
    """APPLY_MODEL wrapper: append the reference to each chunk, run, and strip it again.

    ``x`` (chunks * rows, C, h, w); chunk c belongs to the cond entry ``uuids[c]``.
    """
    run = transformer_options.get(RUN)
    if run is None:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
    chunks = len(transformer_options["cond_or_uncond"])
    rows, reference = x.shape[0] // chunks, run.options.reference
    if x.shape[0] != chunks * run.batch:
        raise ValueError(
            f"SharedAttention Patch: the model is being called with {x.shape[0]} rows for {chunks} prompts,"
            f" expected the {run.batch} pictures of the batch for each. Tiled and windowed sampling do not"
            " work with this node."
        )
    layout = Layout(chunks, rows, extra=0 if reference is None else 1)
    transformer_options = {**transformer_options, LAYOUT: layout}
    if reference is None:
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    if x.shape[1:] != reference.latent_shape:
        raise ValueError(
            f"SharedAttention Patch: the model is being called on a part of the picture ({x.shape[3] * 8} x "
            f"{x.shape[2] * 8} pixels, an area prompt or a tile), expected the reference's whole size. "
            "Area prompts and tiled sampling do not work with a style reference; use them without one."
        )

    def extend(per_row: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
        """(chunks * rows, ...) and (chunks, ...) to (chunks * (rows + 1), ...)."""
        extra = extra.to(per_row)
        return torch.cat([per_row.unflatten(0, (chunks, rows)), extra.unsqueeze(1)], 1).flatten(0, 1)

    conds = [run.conds[name] for name in chunk_names(run, transformer_options)]
    first = t.unflatten(0, (chunks, rows))[:, 0]
    x = extend(x, reference.path.at(first))
    t = extend(t, first)
    if c_crossattn is not None:
        prompts = [CONDCrossAttn(c["c_crossattn"].cond[:1].to(c_crossattn)) for c in conds]
        context = CONDCrossAttn(c_crossattn).concat(prompts)
        c_crossattn = extend(context[: chunks * rows], context[chunks * rows :])
    if c_concat is not None:
        blank = torch.cat([c["c_concat"].cond[:1].to(c_concat) for c in conds])
        c_concat = extend(c_concat, blank)
    if control is not None:
        # The ControlNet never sees the reference: its residuals for that row are zero. T2I-Adapters hand over
        # a single row for all.
        def residual(r):
            r = r.expand(chunks * rows, *r.shape[1:])
            return extend(r, torch.zeros_like(r[:chunks]))

        control = {
            key: [None if r is None else residual(r) for r in residuals] for key, residuals in control.items()
        }
    for key, value in kwargs.items():
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == chunks * rows:
            own = [
                c[key].cond[:1] if key in c else value[i * rows : i * rows + 1] for i, c in enumerate(conds)
            ]
            kwargs[key] = extend(value, torch.cat([o.to(value) for o in own]))
    out = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
    return out.unflatten(0, (chunks, rows + 1))[:, :rows].flatten(0, 1)


def chunk_names(run: Run, transformer_options: dict) -> list[str]:
    """``positive`` or ``negative`` for each chunk, by the entry's identity; by its index where the identity
    is new.
    """
    names = []
    for uuid, index in zip(transformer_options["uuids"], transformer_options["cond_or_uncond"], strict=True):
        name = run.names.get(uuid)
        if name is None:
            name = "positive" if index == 0 else "negative"
        names.append("negative" if name == "negative" else "positive")
    return names


def attend(q, k, v, extra):
    """attn1 replacement: (chunks * (rows + extra), N, C) projected queries, keys and values to the
    attention's output.
    """
    heads = extra["n_heads"]
    run, layout = extra.get(RUN), extra.get(LAYOUT)

    def plain(q, k, v):
        return optimized_attention(
            q, k, v, heads, attn_precision=extra["attn_precision"], transformer_options=extra
        )

    # HyperTile and token merging hand over other rows or tokens than the model call had: nothing to share
    # then.
    if (
        run is None
        or layout is None
        or q.shape != k.shape
        or q.shape[0] != layout.chunks * (layout.rows + layout.extra)
    ):
        return plain(q, k, v)
    dtype = q.dtype
    if get_attn_precision(extra["attn_precision"], dtype) == torch.float32:
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.unflatten(0, (layout.chunks, -1)) for x in (q, k, v))
    at = (
        layout.rows if layout.extra else 0
    )  # an appended reference comes last; else the first image is the reference
    targets = slice(0, at) if layout.extra else slice(1, None)
    options = run.options
    q_ref, k_ref, v_ref = (x[:, at : at + 1] for x in (q, k, v))
    q_own, k_own, v_own = (x[:, targets] for x in (q, k, v))
    if options.adain is not None:
        if options.adain.queries:
            q_own = adain(q_own, q_ref, options.adain.strength)
        if options.adain.keys:
            k_own = adain(k_own, k_ref, options.adain.strength)
    # The reference's own attention is provably unchanged by sharing with itself, so it stays the host's
    # plain kernel.
    out = torch.empty_like(v)
    out[:, at] = plain(q_ref[:, 0], k_ref[:, 0], v_ref[:, 0])
    if q_own.shape[1]:
        if options.share is None:
            out[:, targets] = plain(*(x.flatten(0, 1) for x in (q_own, k_own, v_own))).unflatten(
                0, (layout.chunks, -1)
            )
        else:
            out[:, targets] = shared_attention(
                q_own,
                k_own,
                v_own,
                k_ref[:, 0],
                v_ref[:, 0],
                heads,
                options.share.logit_shift,
                options.share.scale,
            )
    return out.flatten(0, 1).to(dtype)
