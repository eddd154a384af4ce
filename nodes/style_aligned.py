"""StyleAligned: shared self-attention, and AdaIN on queries and keys."""

import logging

from comfy_api.latest import io

from ..zsamb_core.finite import require_numbers
from ..zsamb_core.layers import Layer, left_alone, parse_blocks
from ..zsamb_core.numbers import comma_note, parse_curve, read_factors
from ..zsamb_core.style_aligned.options import (
    GROUP_NORMS,
    PRESETS,
    AdaIN,
    Share,
    authors_preset,
    shares_group_norms,
)
from ..zsamb_core.style_aligned.reference import StyleReference
from ._common import (
    AUTO,
    CATEGORY,
    CUSTOM,
    END,
    SCALE,
    SHIFT,
    START,
    STYLE_REFERENCE,
    check_window,
    naming,
    tell_ignored,
)
from ._host.first_forms import added_later
from ._host.sdxl import attention_layers, require_sdxl
from ._host.style_aligned.patch import style_options, with_style
from ._host.types import Model

BY_PICTURE = "a factor on the strength for each picture, for example 1, 0.5, 0"
REFERENCE, EVERYONE = "reference", "all pictures"
MODEL = io.Model.Input(
    "model", tooltip="An SDXL model. The output is a patched clone; this one stays as it is."
)


class SharedAttention(io.ComfyNode):
    @classmethod
    @added_later("preset")
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_SharedAttention",
            display_name="SharedAttention Patch (Style Aligned)",  # the search goes by names first
            category=CATEGORY,
            description=(
                "Draws a set of pictures in one style: every picture also attends to a reference"
                " (StyleAligned). Without a reference input the first picture of the batch is the reference."
            ),
            search_aliases=[
                "StyleAligned",
                "style aligned",
                "shared attention",
                "Z-SAMB",
                "consistent style",
                "style transfer",
                "style reference",
            ],
            inputs=[
                MODEL,
                STYLE_REFERENCE.Input(
                    "reference",
                    optional=True,
                    tooltip="A picture's style, from DDIM Invert. Left open: the first picture of the batch.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How much attention the reference gets, as a factor on its share. Queries and keys"
                        " take its statistics as far, unless AdaIN Queries says otherwise. 1: the published"
                        " method. 0: off, the model's own picture."
                    ),
                ),
                io.Combo.Input(
                    "preset",
                    options=[AUTO, *PRESETS, CUSTOM],
                    default=AUTO,
                    tooltip=(
                        "Shift and scale of the reference's attention logits. auto: normal with a reference,"
                        " none from prompts alone, as in the authors' notebooks. normal: shift ln 2, scale 1,"
                        " theirs for a reference picture. famous: shift 0, scale 0.5, theirs for pictures"
                        " that the model knows by heart and would copy. none: 0 and 1, the paper's equation,"
                        " theirs for prompts alone. custom: the two numbers below."
                    ),
                ),
                SHIFT,
                SCALE,
                io.Combo.Input(
                    "share",
                    options=[REFERENCE, EVERYONE],
                    default=REFERENCE,
                    tooltip=(
                        "Whom each picture sees. reference: the reference, or the first picture where there"
                        " is none; the method. all pictures: every picture of the batch, the paper's full"
                        " attention share. They are then more alike and less varied, and AdaIN is not used."
                    ),
                ),
                io.String.Input(
                    "blocks",
                    default="all",
                    advanced=True,
                    tooltip=(
                        "Which blocks share: all, or a list of the host's names: input 4, 5, 7, 8; middle 0;"
                        " output 0 to 5. For example: middle 0, output 0-2."
                    ),
                ),
                io.Float.Input(
                    "only_self_level",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    advanced=True,
                    tooltip=(
                        "Part of the layers that do not share, spread evenly, as in the published code. 0:"
                        " all share. More of it varies the set more."
                    ),
                ),
                START,
                END,
                # It was a switch: links from BOOLEAN outputs still fit, and prompts with true or false.
                io.MultiType.Input(
                    io.Combo.Input(
                        "share_group_norm",
                        options=list(GROUP_NORMS),
                        default=AUTO,
                        tooltip=(
                            "Group norms use the statistics of picture and reference together, which aligns"
                            " more. auto: on with a reference, off from prompts alone, as the authors have"
                            " it."
                        ),
                    ),
                    [io.Boolean],
                ),
                io.Boolean.Input(
                    "control_first",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "From prompts alone: ControlNets act on the first picture too. Off, as published:"
                        " there it gives the style, and the others take the structure."
                    ),
                ),
                io.Int.Input(
                    "pictures_at_once",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "How many pictures of the batch are in the model together. 0: all. Fewer need less"
                        " memory and more time, and the set keeps its style. Not with share all pictures."
                    ),
                ),
                io.String.Input(
                    "strength_by_picture",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Factors from 0 to 1 on the strength, one for each picture of the batch: 1, 0.5, 0"
                        " leaves the third picture alone. Empty: 1 for all."
                    ),
                ),
                io.String.Input(
                    "strength_curve",
                    default="1",
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Factors from 0 to 1 on the strength at even distances from start to end, joined by"
                        " lines: 1, 0 falls, 0, 1 rises, 0, 1, 0 swells."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        strength: float,
        preset: str = "custom",  # the first form had the two numbers alone
        score_shift: float = 0.6931,
        score_scale: float = 1.0,
        share: str = REFERENCE,
        blocks: str = "all",
        only_self_level: float = 0.0,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        share_group_norm: str | bool = False,  # likewise
        reference: StyleReference | None = None,
        control_first: bool = False,
        pictures_at_once: int = 0,
        strength_by_picture: str = "",
        strength_curve: str = "1",
    ) -> io.NodeOutput:
        node = "SharedAttention Patch"
        require_sdxl(model, node)
        require_numbers(node, strength=strength, score_shift=score_shift, score_scale=score_scale)
        check_window(start_percent, end_percent, node)
        everyone = share == EVERYONE
        if everyone and pictures_at_once:
            raise ValueError(
                f"{node}: pictures_at_once is {pictures_at_once} and share is {EVERYONE}, whose pictures must"
                f" all be in the model together. Set pictures_at_once to 0, or share to {REFERENCE}."
            )
        with naming(node):
            by_picture = read_factors(strength_by_picture, "strength_by_picture", 1.0, BY_PICTURE)
            curve = parse_curve(strength_curve, "strength_curve", 1.0)
            group_norm = shares_group_norms(share_group_norm, reference is not None)
        chosen = authors_preset(reference is not None) if preset == AUTO else preset
        shift, scale = PRESETS.get(chosen, (score_shift, score_scale))
        layers = sharing_layers(model, node, blocks, only_self_level)
        if style_options(model).share is not None and strength:
            logging.warning(
                f"{node}: the model has a {node} already, and this one takes its place, reference and all. To"
                " join references chain Style Reference."
            )
        if reference is None and strength:
            logging.info(
                f"{node}: no reference is connected: "
                + ("all pictures of the batch see each other." if everyone else "the first picture is it.")
            )
        tell_factors(node, strength, strength_by_picture, by_picture, strength_curve, curve)
        tell_ignored(node, preset, score_shift, score_scale)
        if everyone and reference is None and preset not in (AUTO, "none"):
            logging.warning(f"{node}: preset {preset} does nothing with share {EVERYONE} and no reference.")
        if layers is not None and not layers:
            logging.warning(
                f"{node}: only_self_level is {only_self_level:g}: no layer shares, and the patch is off."
            )
        return io.NodeOutput(
            with_style(
                model,
                node,
                reference=reference,
                share=Share(strength, shift, scale, everyone=everyone),
                layers=layers,
                start=start_percent,
                end=end_percent,
                group_norm=group_norm,
                control_first=control_first,
                at_once=pictures_at_once,
                curve=curve,
                by_picture=by_picture or (1.0,),
            )
        )

    @classmethod
    def validate_inputs(cls, share_group_norm: str | bool | None = None) -> bool | str:
        """In place of the host's look into the list, which has no true and false."""
        if share_group_norm is None:  # comes by a link, and is looked at when it is there
            return True
        try:
            shares_group_norms(share_group_norm, False)
        except ValueError as error:
            return str(error)
        return True


def tell_factors(
    node: str,
    strength: float,
    by_picture: str,
    factors: tuple[float, ...],
    curve: str,
    along: tuple[float, ...],
) -> None:
    """Log factors on the strength that may be read otherwise than they were meant, or do nothing."""
    for name, text, numbers in (
        ("strength_by_picture", by_picture, factors),
        ("strength_curve", curve, along),
    ):
        if note := comma_note(text):
            logging.warning(f"{node}: {name} {note}")
        if strength and numbers and not any(numbers):
            logging.warning(f"{node}: {name} is 0 throughout, and the patch is off.")
        if not strength and set(numbers) - {1.0}:
            logging.warning(f"{node}: strength is 0, so {name} does nothing.")


def sharing_layers(model: Model, node: str, blocks: str, only_self_level: float) -> frozenset[Layer] | None:
    """The layers that share, None for all. Raises ValueError for unknown blocks."""
    layers = attention_layers(model)
    with naming(node):
        named = parse_blocks(blocks, dict.fromkeys(layer.block for layer in layers))
        alone = left_alone(layers, only_self_level)
    chosen = frozenset(layer for layer in layers if layer.block in named and layer not in alone)
    return None if len(chosen) == len(layers) else chosen


class AdaINQueries(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_AdaINQueries",
            display_name="AdaIN Queries",
            category=CATEGORY,
            description=(
                "Gives queries, keys and values of self-attention the mean and spread of the reference's"
                " (AdaIN). With SharedAttention Patch, before or after, it sets that node's AdaIN; alone it"
                " matches statistics only, which by itself aligns little."
            ),
            search_aliases=["AdaIN", "StyleAligned", "adaptive instance normalization", "Z-SAMB"],
            inputs=[
                MODEL,
                io.Boolean.Input("queries", default=True, tooltip="Normalize queries. On in the paper."),
                io.Boolean.Input("keys", default=True, tooltip="Normalize keys. On in the paper."),
                io.Boolean.Input(
                    "values",
                    default=False,
                    tooltip="Normalize values. Off in the paper; stronger, and takes colors along.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip=(
                        "How far to go from the picture's own statistics (0) to the reference's (1, the"
                        " paper)."
                    ),
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Model, queries: bool, keys: bool, values: bool, strength: float) -> io.NodeOutput:
        node = "AdaIN Queries"
        require_numbers(node, strength=strength)
        if not (strength and (queries or keys or values)):
            logging.warning(
                f"{node}: "
                + ("queries, keys and values are all off" if strength else "strength is 0")
                + ": no statistics are matched, those of SharedAttention Patch neither."
            )
        if style_options(model).adain is not None:
            logging.warning(f"{node}: the model has {node} already, and this one takes its place.")
        return io.NodeOutput(with_style(model, node, adain=AdaIN(queries, keys, values, strength)))


NODES = [SharedAttention, AdaINQueries]
