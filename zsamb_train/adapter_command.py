"""``zsamb adapter``: what an IP-Adapter uses of a picture, and the same adapter for other software."""

import argparse
from pathlib import Path
from typing import Any

from zsamb_core.console import FAILED, WRONG, say, show, tell
from zsamb_core.packages import require_packages

DESCRIPTION = """Measure an IP-Adapter, or pad one for other software.
  probe   how much style and how much content of a style picture it uses, without drawing
  pad     zeros for the blocks that it has not, for software that expects all"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    commands = parser.add_subparsers(metavar="ACTION", dest="action", required=True, help="what to do")
    probe = commands.add_parser("probe", help="how much style and content an adapter uses")
    probe.add_argument("adapter", metavar="FILE[:BLOCKS]", help="an adapter, and the blocks to use, or demo")
    probe.add_argument("data", metavar="DATA", type=Path, help="pictures, with a subfolder for each style")
    probe.add_argument("--checkpoint", required=True, metavar="FILE", help="an SDXL checkpoint, or demo")
    probe.add_argument("--clip-vision", metavar="FILE", type=Path, help="the image encoder's file")
    probe.add_argument("--resolution", metavar="PX", type=int, default=512, help="512 if not given")
    probe.add_argument("--pictures", metavar="N", type=int, default=20, help="20 if not given")
    pad = commands.add_parser("pad", help="zeros for the blocks that an adapter has not")
    pad.add_argument("adapter", metavar="FILE", type=Path, help="an adapter")
    pad.add_argument("output", metavar="FILE", type=Path, help="a new file")
    pad.add_argument("--model", choices=("sdxl", "demo"), default="sdxl", help="that it is for")


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        require_packages("torch", "safetensors", "PIL")
        if options.action == "pad":
            tell([pad(options)])
        else:
            show([str(probe(options))])
    except (ValueError, RuntimeError) as error:
        say(f"zsamb adapter {options.action}: {error}")
        return WRONG
    except OSError as error:
        say(f"stopped: {error}")
        return FAILED
    return 0


def probe(options: argparse.Namespace) -> Any:
    """The gains of an adapter file, in all its blocks or in those named behind a colon."""
    import torch

    from .adapter import start_from
    from .data.source import open_source
    from .held_out import Part, split
    from .host import DEMO, attention, load_host
    from .layers import chosen_layers, numbers_of
    from .patches import with_images
    from .reports import probe_of

    if options.pictures < 1:
        raise ValueError(f"--pictures is {options.pictures}, expected 1 or more")
    name, _, blocks = options.adapter.partition(":")
    if name != DEMO and not Path(name).is_file():
        raise ValueError(f"there is no adapter {name}, expected a .safetensors or .bin file, or demo")
    source = open_source(options.data)
    host = load_host(options.checkpoint, options.clip_vision, half=torch.cuda.is_available())
    file = host.pack.nodes._host.demo_model.demo_adapter("zsamb adapter") if name == DEMO else Path(name)
    every = numbers_of(host.widths, host.widths)
    own = {every[layer]: kv for layer, kv in host.to_key_and_value().items()}
    adapter, lacking = start_from(file, {n: host.widths[layer] for layer, n in every.items()}, own)
    wanted = chosen_layers(blocks, host.widths) if blocks else [x for x in every if every[x] not in lacking]
    missing = [layer for layer in wanted if every[layer] in lacking]
    if missing:
        raise ValueError(f"{file.name} has nothing for {missing[0].block}; name blocks that it has, or none")
    numbers, kernel = {layer: every[layer] for layer in wanted}, attention(host.device)
    adapter = adapter.to(host.device)
    _, probed = split(source, 0, options.pictures)
    made = probe_of(host, adapter.made.kind, Part(source, probed), options.resolution)
    return made.measure(lambda features: with_images(adapter(features), numbers, kernel))


def pad(options: argparse.Namespace) -> Path:
    """Raises ValueError for a file that is no adapter of the model, and OSError where the place is taken."""
    import torch

    from zsamb_core.instantstyle.adapter_file import open_adapter
    from zsamb_core.instantstyle.blocks import adapter_keys
    from zsamb_core.instantstyle.export import export_adapter

    from .host import empty_unet

    adapter = open_adapter(options.adapter)
    _, widths, _ = empty_unet(options.model == "demo", torch.bfloat16)
    keys = adapter_keys(widths)
    there = [layer for layer in widths if keys[layer] in adapter.layers]
    return export_adapter(adapter, widths, there, options.output, padded=True)
