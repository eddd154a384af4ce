"""The style patch on a model clone, and what it does around a sampling run.

All of it is hooks of the host on the clone; no module is touched:

- an OUTER_SAMPLE wrapper checks what is asked and encodes the references' conditioning once per run;
- an APPLY_MODEL wrapper (`call`) runs the references at each call's own noise level, so the picture is the
  same with any sampler, and with cond and uncond together or apart;
- attn1 replacements (`layers`) share attention on projected tensors. Their keys are 2-tuples, so that
  PAG and SAG keep their places;
- object patches share group norms, where that is asked for. The host undoes them with the clone;
- an OUTER_SAMPLE wrapper shows the whole batch in the host's previews (`previews`).
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import convert_cond
from comfy.samplers import encode_model_conds

from ....zsamb_core.schedule import Window
from ....zsamb_core.style_aligned.attention_maps import AttentionMaps, AttentionRecord
from ....zsamb_core.style_aligned.options import StyleOptions
from ....zsamb_core.style_aligned.reference import Reference, normalised_weights
from ..batch_part import PICTURES, numbered, rows_of
from ..previews import preview_the_batch
from ..sampling_run import follow_runs
from ..sdxl import attention_blocks, context_width, require_additive_noise, require_sdxl
from ..types import Model
from .bank_size import bytes_of_bank, rows_for
from .call import RUN, STYLE_IMAGES, Run, apply_with_references
from .host_attention import others_choice
from .layers import attend, group_norms, shared_group_norm

OPTIONS = "zsamb_style_options"
PREVIEWS = "zsamb_previews"
RECORD = "zsamb_attention_record"
NODE = "SharedAttention Patch"


def style_options(model: Model) -> StyleOptions:
    return model.model_options["transformer_options"].get(OPTIONS, StyleOptions())


def with_style(model: Model, node: str, **changes: Any) -> Model:
    """A clone of ``model`` whose style options take ``changes``; ``model`` itself is left as it was.

    Raises ValueError for a model that is not SDXL-shaped, or whose self-attention or group norms another
    pack has replaced.
    """
    require_sdxl(model, node)
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    if OPTIONS not in options:
        blocks = attention_blocks(clone)
        refuse_foreign_attention(options, blocks, node)
        for name, number in blocks:
            clone.set_model_attn1_replace(attend, name, number)
        follow_runs(clone, node)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, PREVIEWS, preview_the_batch)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, OPTIONS, sample_in_style)
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, OPTIONS, count_references)
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, OPTIONS, apply_with_references)
    options = replace(style_options(clone), **changes)
    clone.model_options["transformer_options"] = {
        **clone.model_options["transformer_options"],
        OPTIONS: options,
    }
    if options.group_norm:
        share_group_norms(clone, node)
    return clone


def share_group_norms(clone: Model, node: str) -> None:
    """Raises ValueError where another pack has patched a group norm."""
    for path, patch in group_norms(clone).items():
        patched = clone.object_patches.get(path)
        if patched is not None and getattr(patched, "func", None) is not shared_group_norm:
            raise ValueError(
                f"{node}: another node has patched {path}, expected the model's own group norms. Switch"
                " share_group_norm off, or leave the other node out."
            )
        clone.add_object_patch(path, patch)


def refuse_foreign_attention(transformer_options: dict, blocks: Any, node: str, at_once: int = 0) -> None:
    """Raises ValueError where another node has replaced self-attention: only one replacement can have a
    layer. One single layer may be another's (Self-Attention Guidance listens to one): it does not share.
    None may where ``at_once`` pictures are drawn at a time: the other node would hear the last ones alone.
    """
    taken = transformer_options.get("patches_replace", {}).get("attn1", {})
    clash = sorted(key for key, patch in taken.items() if tuple(key[:2]) in blocks and patch is not attend)
    if len(clash) > 1 or any(len(key) < 3 for key in clash):
        raise ValueError(
            f"{node}: another node replaces the model's self-attention in {clash}, expected none, or one"
            " layer at most as Self-Attention Guidance does. Use one node or the other on this model."
        )
    if clash and at_once:
        raise ValueError(
            f"{node}: pictures_at_once is {at_once}, and another node listens to the layer {clash[0]}, as"
            " Self-Attention Guidance does, expected none: it has to hear the whole batch. Set"
            " pictures_at_once to 0, or leave the other node out."
        )
    if clash:
        logging.info(f"{node}: the layer {clash[0]} belongs to another node and does not share attention.")


def with_record(model: Model, record: AttentionRecord) -> Model:
    """A clone of ``model`` whose runs keep in ``record`` where pictures look at the reference."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    clone.model_options["transformer_options"] = {**options, RECORD: record}
    return clone


def without_style(model: Model) -> Model:
    """A clone of ``model`` whose style options are switched off, and that sees no style images."""
    clone = model.clone()
    options = dict(clone.model_options["transformer_options"])
    options.pop(STYLE_IMAGES, None)
    if OPTIONS in options:
        options[OPTIONS] = StyleOptions()
    clone.model_options["transformer_options"] = options
    return clone


def sample_in_style(
    executor: Any, noise: torch.Tensor, latent_image: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """OUTER_SAMPLE wrapper: before anything is loaded, check what is asked and encode the references'
    conditioning.
    """
    guider = executor.class_obj
    model, transformer_options = guider.model_patcher, guider.model_options["transformer_options"]
    asked = transformer_options.get(OPTIONS, StyleOptions())
    if not asked.active:
        return executor(noise, latent_image, *args, **kwargs)
    run = prepare_run(model, asked, transformer_options, noise)
    record: AttentionRecord | None = transformer_options.get(RECORD)
    if record is not None:
        run = replace(run, maps=AttentionMaps(run.batch))
    tell(run, transformer_options.get(PICTURES))
    chosen = others_choice(transformer_options)
    if asked.share is not None and chosen is not None:
        logging.info(
            f"{NODE}: the patched layers use {chosen}, over own and references' keys in one piece. That takes"
            " more memory than the pack's own kernels, and it draws other pictures where it is quantized."
        )
    # The guider's model options are this run's own copy; the host puts the originals back afterwards.
    guider.model_options["transformer_options"] = {**transformer_options, RUN: run}
    try:
        drawn = executor(noise, latent_image, *args, **kwargs)
    finally:
        run.bank.clear()
    if record is not None and run.maps is not None:
        record.keep(drawn, run.maps)
    return drawn


def prepare_run(model: Model, asked: StyleOptions, transformer_options: dict, noise: torch.Tensor) -> Run:
    """Raises ValueError for what cannot be drawn."""
    options = asked.resolved()
    blocks = attention_blocks(model)
    in_parts = options.at_once < noise.shape[0]
    refuse_foreign_attention(transformer_options, blocks, NODE, options.at_once if in_parts else 0)
    size = (int(noise.shape[-2]), int(noise.shape[-1]))
    pictures = transformer_options.get(PICTURES)
    references: tuple[Reference, ...] = ()
    weights: tuple[float | torch.Tensor, ...] = ()
    conds: tuple[dict[str, dict[str, Any]], ...] = ()
    if options.reference is not None:
        require_additive_noise(model, NODE)
        try:
            references = options.reference.counted()
            references = tuple(
                replace(r, mask=None if r.mask is None else rows_of(r.mask, pictures, len(noise)))
                for r in references
            )
            references = tuple(r.to(model.load_device) for r in references)
            weights = tuple(normalised_weights(references, size))
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        for reference, weight in zip(references, weights, strict=True):
            check_reference(reference, weight, noise)
            check_model(reference, context_width(model))
        conds = tuple(encode_reference(model, reference) for reference in references)
    sampling = model.get_model_object("model_sampling")
    return Run(
        options,
        batch=noise.shape[0],
        size=size,
        start=sampling.percent_to_sigma(options.start),
        end=sampling.percent_to_sigma(options.end),
        patches={block: attend for block in blocks},
        references=references,
        weights=weights,
        mean_weights=tuple(float(w.mean()) if isinstance(w, torch.Tensor) else w for w in weights),
        logits=tuple((r.shift, r.scale) for r in references),
        conds=conds,
        asked=asked,
        factor_at=along(asked, sampling.percent_to_sigma),
        factors=factors_of(asked, pictures, len(noise)),
    )


def along(asked: StyleOptions, percent_to_sigma: Callable[[float], float]) -> Callable[[float], float] | None:
    """The factor on the strength at a noise level; None where it is 1 at all."""
    if set(asked.curve) == {1.0}:
        return None
    window = Window(asked.start, asked.end, asked.curve)
    return lambda sigma: window.weight(sigma, percent_to_sigma)


def factors_of(asked: StyleOptions, pictures: tuple[int, ...] | None, batch: int) -> tuple[float, ...]:
    """Of each picture of the batch; none where they are all 1."""
    factors = asked.by_picture
    if set(factors) == {1.0}:
        return ()
    places = tuple(range(batch)) if pictures is None or len(factors) == batch else pictures
    if len(factors) not in (1, batch):
        again = max(places) >= len(factors)
        logging.log(
            logging.WARNING if again else logging.INFO,
            f"{NODE}: strength_by_picture has {len(factors)} numbers and the batch {batch} pictures: "
            + ("they are repeated." if again else f"taken for {numbered(places)} of the set."),
        )
    return tuple(factors[place % len(factors)] for place in places)


def tell(run: Run, pictures: tuple[int, ...] | None) -> None:
    """Log what a user may not have meant of a set from prompts alone."""
    if run.references:
        return
    if run.led_by_first and len(set(run.factors)) > 1 and run.factors[0] != 1:
        logging.info(
            f"{NODE}: the first picture is the reference, so the first number of strength_by_picture does"
            " nothing."
        )
    if run.batch == 1 and pictures in (None, (0,)):
        logging.warning(
            f"{NODE}: one picture and no reference: there is nothing to share with, and this is the model's"
            " own picture. Connect a reference, or draw several pictures in one batch."
        )
    elif run.led_by_first and pictures is not None and pictures[0] != 0:
        logging.warning(
            f"{NODE}: {numbered(pictures)} of a set without its first picture, and without a reference:"
            f" {numbered(pictures[:1])} sets the style here. For one style in all parts, draw the whole batch"
            " with pictures_at_once, or record the first picture with KSampler (Record Reference) and connect"
            " that as the reference."
        )


def check_reference(reference: Reference, weight: Any, noise: torch.Tensor) -> None:
    """Raises ValueError for a reference of another kind of latent, or a mask of another batch."""
    if reference.latent_shape[0] != noise.shape[1]:
        raise ValueError(
            f"{NODE}: a reference has latents of {reference.latent_shape[0]} channels, expected"
            f" {noise.shape[1]} as the latent being sampled. Make the reference with the same kind of model."
        )
    if isinstance(weight, torch.Tensor) and weight.shape[0] not in (1, noise.shape[0]):
        raise ValueError(
            f"{NODE}: a reference's mask holds {weight.shape[0]} masks, expected 1, or {noise.shape[0]} as"
            " there are pictures in the batch."
        )


def check_model(reference: Reference, width: int | None) -> None:
    """Raises ValueError for a reference whose prompts are of another model's text encoders: ``width`` are the
    channels that this model takes, None where they are not known.
    """
    for name in ("positive", "negative"):
        found = getattr(reference, name)[0][0].shape[-1]
        if width is not None and found != width:
            raise ValueError(
                f"{NODE}: a reference's {name} prompt has tokens of {found} channels, expected {width} as"
                " this model takes. It was made with another kind of model. Make it with this one, or load"
                " the model that it was made with."
            )


def encode_reference(model: Model, reference: Reference) -> dict[str, dict]:
    """The model-ready conditioning of a reference, by name: the first entry of each CONDITIONING counts."""
    latent = torch.zeros(1, *reference.latent_shape)
    conds = {}
    for name, conditioning in (("positive", reference.positive), ("negative", reference.negative)):
        encoded = encode_model_conds(
            model.model.extra_conds,
            convert_cond(conditioning[:1]),
            latent,
            model.load_device,
            name,
            latent_image=latent,  # an inpainting model gets the host's blank picture
        )
        conds[name] = encoded[0]["model_conds"]
    return conds


def count_references(
    executor: Any,
    model: Model,
    noise_shape: Any,
    *args: Any,
    model_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """PREPARE_SAMPLING wrapper: the host sets aside memory by rows, and must do so for the references too."""
    run = (model_options or {}).get("transformer_options", {}).get(RUN)
    if run is not None:
        batch, size = noise_shape[0], noise_shape[1:]
        if 0 < run.options.at_once < batch:
            batch = run.options.at_once
        noise_shape = [batch + rows_for(model, size, bytes_of_bank(model, run)), *size]
    return executor(model, noise_shape, *args, model_options=model_options, **kwargs)
