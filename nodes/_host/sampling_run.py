"""What the patches need to know of a sampling run: each cond entry's name and area, by its identity.

The guider's names for its conds tell which is negative. Their order does not: DualCFG's first is negative,
and so is PerpNeg's last.
"""

from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from comfy.patcher_extension import WrappersMP

from .batch_part import PICTURES, pick_prompts, pictures_of
from .types import Model

KEY = "zsamb_sampling_run"


class SamplingRun(NamedTuple):
    """``names`` and ``areas`` of cond entries by their identity; the latents' ``shape``; ``pictures``: which
    of a set they are, None where nothing tells; ``placed``: what patches keep on the device until the run
    ends.
    """

    names: dict
    areas: dict
    shape: tuple[int, ...]
    pictures: tuple[int, ...] | None
    placed: dict


def follow_runs(model: Model, node: str) -> None:
    """Note the runs of a MODEL clone. ``node``: the name in its log lines. Wrappers of OUTER_SAMPLE that ask
    for the pictures come after.
    """
    if KEY not in model.wrappers.get(WrappersMP.SAMPLER_SAMPLE, {}):
        for kind, wrappers in run_wrappers(node).items():
            model.add_wrapper_with_key(kind, KEY, wrappers)


def run_wrappers(node: str) -> dict:
    """What notes a run, by the host's kind of wrapper."""
    return {WrappersMP.OUTER_SAMPLE: partial(note_pictures, node), WrappersMP.SAMPLER_SAMPLE: note_run}


def note_pictures(
    node: str,
    executor: Any,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Any,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    callback: Any = None,
    disable_pbar: bool = False,
    seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """OUTER_SAMPLE wrapper: find out which pictures of a set are drawn, and give them their prompts."""
    guider = executor.class_obj
    transformer_options = guider.model_options["transformer_options"]
    if PICTURES not in transformer_options:  # else by the model's wrapper and a hook's
        pictures = pictures_of(noise, seed)
        pick_prompts(guider.conds, pictures, len(noise), node)
        # The guider's model options are this run's own copy; the host puts the originals back afterwards.
        guider.model_options["transformer_options"] = {**transformer_options, PICTURES: pictures}
    return executor(
        noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs
    )


def note_run(
    executor: Any,
    guider: Any,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any],
    callback: Any,
    noise: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """SAMPLER_SAMPLE wrapper: note the cond entries, now that the host has processed them.

    For area prompts the host copies a positive entry into the negative, identity and all; the copy gets an
    identity of its own.
    """
    model_options = extra_args["model_options"]
    if KEY in model_options["transformer_options"]:  # by the model's wrapper and a hook's
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
    names: dict = {}
    for name, entries in guider.conds.items():
        for i, entry in enumerate(entries):
            if names.get(entry["uuid"], name) != name:
                entries[i] = entry = {**entry, "uuid": uuid4()}
            names[entry["uuid"]] = name
    areas = {entry["uuid"]: entry.get("area") for entries in guider.conds.values() for entry in entries}
    pictures = model_options["transformer_options"].get(PICTURES)
    run = SamplingRun(names, areas, tuple(noise.shape), pictures, placed={})
    transformer_options = {**model_options["transformer_options"], KEY: run}
    extra_args = {
        **extra_args,
        "model_options": {**model_options, "transformer_options": transformer_options},
    }
    try:
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
    finally:
        run.placed.clear()


def repeats(rows: int, chunks: int, pictures: int) -> int:
    """How often the chunks of a model call of ``rows`` follow each other: tiled samplers stack tiles on the
    batch, each with all chunks (ComfyUI-TiledDiffusion). A window of the batch is less than once, and is 1.
    """
    times, rest = divmod(rows, chunks * pictures)
    return times if times and not rest else 1


def chunk_names(transformer_options: dict) -> list[str]:
    """``positive`` or ``negative`` for each chunk of a model call, by the entry's identity; by its index
    where the identity is new.
    """
    run: SamplingRun | None = transformer_options.get(KEY)
    known = run.names if run is not None else {}
    names = []
    for uuid, index in zip(transformer_options["uuids"], transformer_options["cond_or_uncond"], strict=True):
        name = known.get(uuid, "positive" if index == 0 else "negative")
        # Guiders with three conds have a "middle", and an "empty_negative_prompt".
        names.append("negative" if "negative" in name else "positive")
    return names
