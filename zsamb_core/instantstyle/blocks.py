"""Which attention blocks an adapter acts in: InstantStyle's roles, and weights by block and layer.

A negative weight swaps the sides of the guidance: the unconditional branch sees the image and the
conditional one sees none, so guidance pushes away from what the block carries.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from ..layers import (
    SD15_BLOCKS,
    SDXL_BLOCKS,
    Block,
    Layer,
    block_name,
    block_names,
    published_order,
    read_name,
)

# The authors' blocks, by the host's names; diffusers' up_blocks.0.attentions.1 and down_blocks.2.attentions.1
# for SDXL, up_blocks.1 and down_blocks.2 with mid_block for SD1.5.
STYLE: Mapping[tuple[Block, ...], tuple[Block, ...]] = {
    SDXL_BLOCKS: (("output", 1),),
    SD15_BLOCKS: (("output", 3), ("output", 4), ("output", 5)),
}
LAYOUT: Mapping[tuple[Block, ...], tuple[Block, ...]] = {
    SDXL_BLOCKS: (("input", 8),),
    SD15_BLOCKS: (("input", 7), ("input", 8), ("middle", 0)),
}
# (name, number, position): a layer, or with None for the position a whole block.
BlockOrLayer = tuple[str, int, int | None]
MOST = 1000  # no model has as many blocks, or layers in one
PRESETS = ("style", "layout", "style and layout", "precise style", "strong style", "all")


def adapter_keys(layers: Iterable[Layer]) -> dict[Layer, int]:
    """The number of each cross-attention layer in an IP-Adapter file: its place among diffusers' attention
    processors, which go down, up, middle and have self-attention before it.
    """
    return {layer: 2 * i + 1 for i, layer in enumerate(published_order(layers))}


def preset_weights(preset: str, layers: Sequence[Layer]) -> dict[Layer, float]:
    """Weights by layer; layers not in it are left alone. Raises ValueError for a preset that is unknown, or
    that the model's blocks have no roles for.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}, expected one of {', '.join(PRESETS)}")
    if preset == "all":
        return dict.fromkeys(layers, 1.0)
    blocks = tuple(dict.fromkeys(layer.block for layer in layers))
    if blocks not in STYLE:
        raise ValueError(
            f"preset {preset} is known for the blocks of SDXL and SD1.5, and the model has attention in"
            f" {block_names(blocks)}. Use preset all, or Block Weights."
        )
    style = dict.fromkeys(STYLE[blocks], 1.0)
    layout = dict.fromkeys(LAYOUT[blocks], 1.0)
    weights = {
        "style": style,
        "layout": layout,
        "style and layout": style | layout,
        "precise style": style | dict.fromkeys(layout, -1.0),
        "strong style": {block: 1.0 for block in blocks if block not in layout},
    }[preset]
    return {layer: weights[layer.block] for layer in layers if layer.block in weights}


def chosen_weights(
    preset: str, weights: Mapping[BlockOrLayer, float] | None, layers: Sequence[Layer]
) -> dict[Layer, float]:
    """Of the preset, or of ``weights`` in its place. Raises ValueError as `preset_weights` and
    `layer_weights` do.
    """
    return preset_weights(preset, layers) if weights is None else layer_weights(weights, layers)


def parse_weights(text: str) -> dict[BlockOrLayer, float]:
    """Lines or comma-separated items ``block = weight`` or ``block.layer = weight``, with ranges:
    ``output 1 = 1, output 1.0-4 = 0.5, input 7-8 = -0.3``. By (name, number, layer), None for a whole block.
    Raises ValueError that quotes the item.
    """
    weights: dict[BlockOrLayer, float] = {}
    for item in filter(None, (part.strip() for part in re.split(r"[,\n;]", text.lower()))):
        match = re.fullmatch(r"([^=:]+?)\s*[=:]\s*(\S+)", item)
        named = read_name(match[1]) if match else None
        weight = _number(match[2]) if match else None
        if (
            named is None
            or weight is None
            or named.name not in ("input", "middle", "output")
            or named.numbers is None
            or max(named.numbers.stop, named.positions.stop if named.positions else 0) > MOST
        ):
            raise ValueError(
                f"layers: {item!r} is not a weight. Write a block, or a block and its layer, an equals sign"
                " and a number from -10 to 10, for example: output 1 = 1, output 1.0-4 = 0.5"
            )
        positions = (None,) if named.positions is None else named.positions
        if not named.numbers or not positions:
            raise ValueError(
                f"layers: {item!r} has a range that ends before it starts. Write, say, output 3-5"
            )
        weights |= {(named.name, number, i): weight for number in named.numbers for i in positions}
    return weights


def layer_weights(weights: Mapping[BlockOrLayer, float], layers: Sequence[Layer]) -> dict[Layer, float]:
    """Weights by layer from weights by block and by layer, of which the layer's own counts; zeros are left
    out. Raises ValueError for a weight on what the model does not have.
    """
    known = set(layers)
    blocks = dict.fromkeys(layer.block for layer in layers)
    for (name, number, position), weight in weights.items():
        block = (name, number)
        there = block in blocks if position is None else (name, number, position) in known
        if weight and not there:
            raise ValueError(
                f"the model has no {block_name(block, position)}; its blocks are {block_names(blocks)}"
            )
    chosen = {layer: weights.get(layer, weights.get((*layer.block, None), 0.0)) for layer in layers}
    return {layer: weight for layer, weight in chosen.items() if weight}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if -10 <= number <= 10 else None
