"""Which layers a run trains."""

from collections.abc import Iterable, Mapping

from zsamb_core.instantstyle.blocks import PRESETS, adapter_keys, preset_weights
from zsamb_core.layers import Layer, parse_blocks

NAMED = tuple(p for p in PRESETS if p not in ("precise style", "strong style"))


def chosen_layers(blocks: str, layers: Iterable[Layer]) -> list[Layer]:
    """Of a model's cross-attention ``layers``: those of a preset, or of a list of blocks such as ``output 1,
    input 7-8``. Raises ValueError that lists the known ones.
    """
    layers = list(layers)
    if blocks in NAMED:
        return list(preset_weights(blocks, layers))
    wanted = parse_blocks(blocks, dict.fromkeys(layer.block for layer in layers))
    return [layer for layer in layers if layer.block in wanted]


def numbers_of(chosen: Iterable[Layer], widths: Mapping[Layer, int]) -> dict[Layer, int]:
    """The number of each ``chosen`` layer in an adapter file. ``widths``: of all cross-attention layers."""
    keys = adapter_keys(widths)
    return {layer: keys[layer] for layer in chosen}
