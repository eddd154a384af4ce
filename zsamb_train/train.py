"""``zsamb train``: from arguments to a run. Imports are in functions: a wrong argument is told at once."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsamb_core.console import FAILED, WRONG, say
from zsamb_core.packages import require_packages

from .arguments import FREE, add_arguments
from .checks import check

if TYPE_CHECKING:
    from .adapter import StyleAdapter
    from .data.sample import Source
    from .host import Host
    from .loop import Settings, Trainer

__all__ = ["add_arguments", "main"]

PACKAGES = ("torch", "safetensors", "PIL", "accelerate", "matplotlib")
SHEET_ROWS = 4


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        check(options)
        require_packages("torch")
        if options.plan:
            from .plan import plan

            return plan(options)
        require_packages(*PACKAGES)
        return train(options)
    except (ValueError, RuntimeError) as error:
        from .loop import Broken

        say(f"zsamb train: {error}")
        return FAILED if isinstance(error, Broken) else WRONG
    except OSError as error:
        say(f"stopped: {error}")  # a full disk, or a folder that cannot be written into
        return FAILED


def train(options: argparse.Namespace) -> int:
    """Raises ValueError for anything the user can mend; data come first, then models."""
    import numpy as np
    import torch
    from accelerate import Accelerator

    from .data.loader import loader
    from .data.source import open_source
    from .held_out import Part, split
    from .host import load_host

    source = open_source(options.data, options.pictures)
    refuse_data(options, source)
    track = [name for name in options.track if name != "none"]
    accelerator = Accelerator(log_with=track or None, project_dir=str(options.output))
    refuse_batch(options, accelerator.num_processes)
    if accelerator.is_main_process:
        for line in [*(f"left out: {one}" for one in source.skipped), *source.notes]:
            say(line)
        remember(options, source)
    accelerator.wait_for_everyone()
    accelerator.init_trackers(options.project, config={k: str(v) for k, v in vars(options).items()})
    half = options.precision == "bf16" or (options.precision == "auto" and torch.cuda.is_available())
    host = load_host(options.checkpoint, options.clip_vision, half)
    if options.checkpointing:
        from .host import compute_again

        compute_again(host.unet)
    adapter, numbers = start(options, host, source)
    kept, probed = split(source, options.seed)
    held: Source = Part(source, probed)
    if options.validation:
        kept, held = np.arange(len(source)), open_source(options.validation)
    trainer = build(options, host, adapter, numbers, accelerator, source)
    if accelerator.is_main_process:
        add_reports(options, trainer, held)
    rows = loader(
        source, options.batch, options.resolution, options.pairs, options.seed, first=trainer.step,
        rank=accelerator.process_index, world=accelerator.num_processes, workers=options.workers, kept=kept,
        step=min(64, options.resolution),
    )  # fmt: skip
    if accelerator.is_main_process:
        for line in rows.notes:
            say(line)
    return trainer.run(iter(rows))


def refuse_data(options: argparse.Namespace, source: "Source") -> None:
    """Raises ValueError for a set that cannot be trained on as it is asked for."""
    from .host import DEMO

    if options.pairs == "group" and not (source.groups >= 0).any():
        raise ValueError(
            f"--pairs group: {options.data} has no style groups, expected a subfolder for each style, or a"
            " group in metadata.jsonl. Use --pairs crop for pictures without groups."
        )
    if options.pairs == "crop" and not source.pictured:
        raise ValueError(
            f"--pairs crop needs pictures, and {options.data} has cached embeddings alone. Prepare it again"
            " with --keep-pictures, or use --pairs self or group."
        )
    if options.kind == "plus" and source.cached:
        raise ValueError(
            f"--kind plus reads patch features, and {options.data} has cached embeddings, which are pooled."
            " Give the pictures."
        )
    if options.checkpoint != DEMO and options.clip_vision is None and not source.cached:
        raise ValueError(
            "--clip-vision is missing: give the image encoder's file, such as models/clip_vision/"
            "clip_vision_h.safetensors of your ComfyUI, or data with embeddings from zsamb prepare"
        )


def refuse_batch(options: argparse.Namespace, processes: int) -> None:
    if options.batch % (processes * options.accumulate):
        raise ValueError(
            f"--batch is {options.batch}, expected a multiple of {processes} processes times"
            f" {options.accumulate} parts (--accumulate)"
        )


def remember(options: argparse.Namespace, source: "Source") -> None:
    """Keep what the run was started with in ``run.json``. Raises ValueError where a run that is there was
    started with other settings or other data.
    """
    now = {k: str(v) for k, v in sorted(vars(options).items()) if k not in FREE and not callable(v)}
    now["digest"] = source.digest
    place = options.output / "run.json"
    if place.is_file():
        before = json.loads(place.read_text(encoding="utf-8"))
        other = [k for k in now if before.get(k) != now[k]]
        if other:
            told = ", ".join(f"{k} was {before.get(k)} and is {now[k]}" for k in other)
            raise ValueError(
                f"--output: {options.output} holds a run that was started otherwise: {told}. Give the run's"
                " own settings to go on with it, or another folder for a new run."
            )
    options.output.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def start(
    options: argparse.Namespace, host: "Host", source: "Source"
) -> tuple["StyleAdapter", dict[Any, int]]:
    """The adapter before its first step, and the number of each trained layer in its file."""
    import torch

    from .adapter import StyleAdapter, new_projector, shapes_of, start_anew, start_from
    from .layers import chosen_layers, numbers_of

    numbers = numbers_of(chosen_layers(options.blocks, host.widths), host.widths)
    widths = {n: host.widths[layer] for layer, n in numbers.items()}
    own = {numbers[layer]: kv for layer, kv in host.to_key_and_value().items() if layer in numbers}
    if options.init:
        adapter, lacking = start_from(options.init, widths, own)
        if lacking:
            say(f"--init: {options.init.name} has no layers {lacking}; these start as the model's own")
    else:
        projector = new_projector(options.kind, host.context_width, features_of(options, host, source))
        adapter = StyleAdapter(projector, shapes_of(projector), widths)
        start_anew(adapter, own, torch.Generator().manual_seed(options.seed))
    adapter.projector.requires_grad_(not options.freeze_projector)
    return adapter.to(host.device), numbers


def features_of(options: argparse.Namespace, host: "Host", source: "Source") -> int:
    """How many channels the image encoder gives. Raises ValueError where none is there."""
    if host.clip_vision is not None:
        encoder = host.pack.nodes._host.instantstyle.vision.encoder_of(host.clip_vision, "zsamb train")
        features: int = encoder.projection if options.kind == "base" else encoder.hidden
        return features
    embed = source.read(0, picture=False, latent=False).embed
    if options.kind == "plus" or embed is None:
        raise ValueError("--clip-vision is missing, and there are no cached embeddings of a base adapter")
    return int(embed.shape[-1])


def build(
    options: argparse.Namespace, host: "Host", adapter: "StyleAdapter", numbers: dict[Any, int],
    accelerator: Any, source: "Source",
) -> "Trainer":  # fmt: skip
    import torch

    from .loop import Trainer
    from .recipe import Recipe

    trained = [p for p in adapter.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=options.weight_decay)
    recipe = Recipe(
        options.drop_image, options.drop_text, options.drop_both, options.offset_noise, options.timesteps,
        options.style_mean, options.style_spread, options.style_share, options.min_snr,
    )  # fmt: skip
    settings = settings_of(options, host, adapter, source)
    return Trainer(host, adapter, numbers, optimizer, accelerator, recipe, settings)


def settings_of(
    options: argparse.Namespace, host: "Host", adapter: "StyleAdapter", source: "Source"
) -> "Settings":
    from .checkpoints import digest
    from .host import DEMO
    from .loop import Settings

    base = "Z-SAMB demo" if options.checkpoint == DEMO else f"sha256 {digest(Path(options.checkpoint))}"
    about = {
        "kind": adapter.made.kind, "encoder features": str(adapter.made.features), "base model": base,
        "data": source.digest, "pairs": options.pairs, "command": " ".join(["zsamb", *sys.argv[1:]]),
    }  # fmt: skip
    return Settings(
        options.output, options.steps, options.batch, options.accumulate, options.seed, options.rate,
        options.warmup, options.schedule, options.clip, options.average, options.keep, options.save_every,
        options.probe_every, options.sheet_every, about,
    )  # fmt: skip


def add_reports(options: argparse.Namespace, trainer: "Trainer", held: "Source") -> None:
    """The probe, and the sheets if there are pictures to show."""
    from .reports import probe_of, sheet_of

    kind = trainer.adapter.made.kind
    if options.probe_every:
        trainer.probe = probe_of(trainer.host, kind, held, options.resolution)
    if options.sheet_every and held.pictured:
        prompts = (
            None if options.prompts is None else options.prompts.read_text(encoding="utf-8").splitlines()
        )
        trainer.sheet = sheet_of(trainer.host, kind, held, options.resolution, SHEET_ROWS, prompts)
