"""Where each picture of a set looks at its reference: recorded while it is drawn, and shown as a picture."""

import logging
import math
from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.latest import io, ui

from ..zsamb_core.finite import require_finite
from ..zsamb_core.heat import colored, heat_over
from ..zsamb_core.layers import Block, block_name, parse_blocks
from ..zsamb_core.sheet import Row, drawn, laid_out
from ..zsamb_core.style_aligned.attention_maps import AttentionMaps, AttentionRecord
from ._common import ATTENTION_RECORD, CATEGORY, WINDOW, check_window, naming
from ._host.sdxl import require_sdxl
from ._host.style_aligned.patch import style_options, with_record
from ._host.types import Image, Latent, Model

RECORDER, NODE = "Record Attention", "Attention Picture"
THIN = 12  # heights of the scale in its width


class RecordAttention(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_RecordAttention",
            display_name=RECORDER,
            category=CATEGORY,
            description=(
                "Notes, while a set is drawn, how much each place of each picture looks at the reference."
                " What is drawn stays the same."
            ),
            search_aliases=["attention map", "attention heat map", "visualize attention", "Z-SAMB"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From SharedAttention Patch. The output is a clone; this one stays as it is.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler."),
                ATTENTION_RECORD.Output(display_name="record", tooltip="For Attention Picture."),
            ],
        )

    @classmethod
    def execute(cls, model: Model) -> io.NodeOutput:
        require_sdxl(model, RECORDER)
        share = style_options(model).resolved().share
        if share is None:
            raise ValueError(
                f"{RECORDER}: the model shares no attention, expected one from SharedAttention Patch with a"
                " strength above 0. Put this node between that one and the sampler, or bypass it."
            )
        if share.everyone:
            raise ValueError(
                f"{RECORDER}: SharedAttention Patch has share all pictures, expected reference: where all see"
                " all there is no reference to look at. Set share to reference, or bypass this node."
            )
        record = AttentionRecord()
        return io.NodeOutput(with_record(model, record), record)


class AttentionPicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_AttentionPicture",
            display_name=NODE,
            category=CATEGORY,
            description=(
                "Shows where each picture of a set looks at the reference, or at the first picture: the share"
                " of its attention, as colors, one row per block."
            ),
            search_aliases=["attention map", "attention heat map", "visualize attention", "Z-SAMB"],
            inputs=[
                ATTENTION_RECORD.Input("record", tooltip="From Record Attention."),
                io.Latent.Input(
                    "latent", tooltip="What the sampler drew. It tells which run of the record is meant."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The same pictures from VAE Decode, to see the colors over them.",
                ),
                io.String.Input(
                    "blocks",
                    default="all",
                    tooltip=(
                        "The rows: all, or a list of the host's names, for example: input 4, output 0-2. The"
                        " first row is the mean of those."
                    ),
                ),
                io.Int.Input(
                    "size", default=256, min=16, max=4096, tooltip="Pixels of each picture's longer side."
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    tooltip="From which part of the recorded steps on. 0: from the first.",
                    **WINDOW,
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    tooltip="Up to which part of the recorded steps. 1: to the last.",
                    **WINDOW,
                ),
            ],
            outputs=[io.Image.Output(display_name="picture", tooltip="The sheet, for Save Image.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        record: AttentionRecord,
        latent: Latent,
        blocks: str,
        size: int,
        start_percent: float,
        end_percent: float,
        images: Image | None = None,
    ) -> io.NodeOutput:
        check_window(start_percent, end_percent, NODE)
        samples = latent["samples"]
        with naming(NODE):
            if size < 1:  # a linked value passes the host's bounds
                raise ValueError(f"size is {size}, expected 1 pixel or more. Look at what is linked.")
            maps = recorded_maps(record, samples)
            pictures = pictures_of(samples, images)
            chosen = [b for b in maps.blocks if b in parse_blocks(blocks, maps.blocks)]
            levels = maps.levels(start_percent, end_percent)
            rows = [*attention_rows(maps, chosen, levels, pictures, images is None)]
            heads = ["the reference" * bool(x.isnan().all()) for x in maps.mean(chosen[0], levels)]
            layout = laid_out(rows, heads, size, 8)
        sheet = drawn(layout, rows)[None]
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet))


def recorded_maps(record: AttentionRecord, samples: torch.Tensor) -> AttentionMaps:
    """Of the run that drew ``samples``. Raises ValueError where there is none, or where it shared nothing."""
    if not len(record):
        raise ValueError(
            "nothing was recorded yet, expected a run with the model of Record Attention. Connect that"
            " node's model to the sampler. If it is, the sampler's result came from ComfyUI's cache: change"
            " the seed to draw it again."
        )
    maps = record.of(samples)
    if maps is None:
        raise ValueError(
            f"none of the {len(record)} recorded runs drew this latent, expected the LATENT as the sampler"
            " gave it out. Connect it from there, before another node changes it. If it is, the record is of"
            " other runs: change the seed to draw this one again."
        )
    if not maps.blocks:
        raise ValueError(
            "the run shared no attention that can be shown, expected whole pictures with a reference, or"
            " several of them. Tiles, areas, share all pictures and one picture from a prompt alone have"
            " none."
        )
    return maps


def pictures_of(samples: torch.Tensor, images: Image | None) -> torch.Tensor:
    """(B, H, W, 3) to lay the colors over; black where no ``images`` are connected."""
    count, _, height, width = samples.shape
    if images is None:
        return torch.zeros(count, 8 * height, 8 * width, 3)
    if images.ndim != 4 or images.shape[-1] < 3 or len(images) != count:
        raise ValueError(
            f"images has shape {tuple(images.shape)}, expected the {count} pictures of the latent, ({count},"
            " H, W, 3). Connect VAE Decode of the same latent."
        )
    require_finite(images, "images")
    return images[..., :3].cpu().float()


def attention_rows(
    maps: AttentionMaps, blocks: list[Block], levels: Any, pictures: torch.Tensor, bare: bool
) -> list[Row]:
    """The pictures, unless ``bare``; the mean of the ``blocks``, where there are several; each block; and the
    scale, which is one for the whole sheet.
    """
    means = {block_name(block): maps.mean(block, levels) for block in blocks}
    if len(means) > 1:
        means = {"mean": joined(list(means.values())), **means}
    seen = torch.cat([x[~x.isnan()] for x in means.values()])
    low, high = float(seen.min()), float(seen.max())
    span = max(high - low, 1e-6)
    rows = [] if bare else [Row(list(pictures), "pictures")]
    for name, shares in means.items():
        cells = [
            None if x.isnan().any() else over((x - low) / span, picture, bare)
            for x, picture in zip(shares, pictures, strict=True)
        ]
        rows.append(Row(cells, name, captions=["" if x.isnan().any() else percent(x.mean()) for x in shares]))
    width = pictures.shape[2]
    bar = colored(torch.linspace(0, 1, width).expand(math.ceil(width / THIN), -1))
    # Under a picture that has cells, so that its column is as wide.
    before: list[torch.Tensor | None] = [None] * next(i for i, x in enumerate(shares) if not x.isnan().any())
    caption = f"{percent(low)} to {percent(high)}"
    rows.append(Row([*before, bar], "share of attention", captions=[*[""] * len(before), caption]))
    logging.info(f"{NODE}: {len(levels)} noise levels; the reference gets {caption} of the attention.")
    return rows


def over(share: torch.Tensor, picture: torch.Tensor, bare: bool) -> torch.Tensor:
    """(H, W, 3): the map alone, as its tokens are, or over the picture."""
    if bare:
        size = (picture.shape[0], picture.shape[1])
        return colored(F.interpolate(share[None, None], size, mode="nearest")[0, 0])
    return heat_over(share, picture)


def joined(maps: list[torch.Tensor]) -> torch.Tensor:
    """The mean of maps (B, h, w) of several sizes, at the largest."""
    size = max((tuple(x.shape[1:]) for x in maps), key=math.prod)
    large = [F.interpolate(x[:, None], size, mode="bilinear", align_corners=False)[:, 0] for x in maps]
    return torch.stack(large).mean(0)


def percent(share: Any) -> str:
    return f"{100 * float(share):.1f} %"


NODES = [RecordAttention, AttentionPicture]
