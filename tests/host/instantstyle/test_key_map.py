"""Which number in an adapter file belongs to which layer: derived from the model, and checked against the
host's own map to diffusers' names, at full size and without weights.
"""

import pytest
import torch

from benchmarks.ip_adapter import CONFIG as SDXL

from ..style_aligned.twins import SD15_CONFIG, UNET_CONFIG

pytestmark = pytest.mark.host

SD15 = SD15_CONFIG | {"model_channels": 320, "context_dim": 768}  # full size


class Shell:
    """A MODEL as far as its structure goes: the host's UNet on the meta device."""

    def __init__(self, config):
        import comfy.ops
        from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

        with torch.device("meta"):
            self.diffusion_model = UNetModel(
                **config, dtype=torch.float16, device="meta", operations=comfy.ops.disable_weight_init
            )
        self.model = self


def processors(config):
    """Diffusers' attention processors in its order, down, up, middle, by the host's own table of names."""
    import comfy.utils

    names: dict = {}
    for theirs, ours in comfy.utils.unet_to_diffusers(config).items():
        if ".attn" in theirs:
            names.setdefault(theirs.split(".to_")[0], ours.split(".to_")[0])

    def key(name):
        parts = name.split(".")
        numbers = [int(p) for p in parts if p.isdigit()]
        return ("down_blocks", "up_blocks", "mid_block").index(parts[0]), numbers, parts[-1]

    return [(name, names[name]) for name in sorted(names, key=key)]


def host_layer(module):
    """("output", 1, 3) for output_blocks.1.1.transformer_blocks.3.attn2; the middle's number is 0."""
    parts = module.split(".")
    name = parts[0].split("_")[0]
    return name, 0 if name == "middle" else int(parts[1]), int(parts[parts.index("transformer_blocks") + 1])


@pytest.mark.parametrize("config, layers", [(SDXL, 70), (SD15, 16), (UNET_CONFIG, 17)])
def test_the_key_map_is_diffusers_order(pack, config, layers):
    shell = Shell(config)
    structure = pack.nodes._host.sdxl.cross_attention(shell, config["context_dim"], "test")
    assert len(structure) == layers
    keys = pack.zsamb_core.instantstyle.blocks.adapter_keys(structure)
    listed = processors(config)
    assert len(listed) == 2 * layers
    for number, (name, module) in enumerate(listed):
        assert name.endswith("attn2") == (number % 2 == 1)
        if number % 2:
            assert keys[host_layer(module)] == number
    assert sorted(keys.values()) == list(range(1, 2 * layers, 2))


def test_sdxl_at_full_size_on_the_meta_device(pack):
    """The published numbers: style 69 to 87, layout 29 to 47, the middle last; widths, and the size of the
    style block's weights, 104.9 of 681.6 MB in fp16.
    """
    structure = pack.nodes._host.sdxl.cross_attention(Shell(SDXL), 2048, "test")
    blocks = pack.zsamb_core.instantstyle.blocks
    keys = blocks.adapter_keys(structure)
    assert tuple(dict.fromkeys(layer[:2] for layer in structure)) == pack.zsamb_core.layers.SDXL_BLOCKS

    def numbers(preset):
        return [keys[layer] for layer in blocks.preset_weights(preset, list(structure))]

    assert numbers("style") == list(range(69, 88, 2))
    assert numbers("layout") == list(range(29, 48, 2))
    assert [keys["middle", 0, i] for i in range(10)] == list(range(121, 140, 2))
    assert len(numbers("strong style")) == 60 and len(numbers("all")) == 70
    assert structure["input", 4, 0] == 640 and structure["output", 1, 9] == 1280

    def megabytes(preset):
        return (
            sum(structure[la] * 2048 * 2 * 2 for la in blocks.preset_weights(preset, list(structure))) / 1e6
        )

    assert round(megabytes("style"), 1) == 104.9 and round(megabytes("all"), 1) == 681.6


def test_sd15_has_the_official_blocks(pack):
    structure = pack.nodes._host.sdxl.cross_attention(Shell(SD15), 768, "test")
    blocks = pack.zsamb_core.instantstyle.blocks
    keys = blocks.adapter_keys(structure)
    assert tuple(dict.fromkeys(layer[:2] for layer in structure)) == pack.zsamb_core.layers.SD15_BLOCKS

    def numbers(preset):
        return sorted(keys[layer] for layer in blocks.preset_weights(preset, list(structure)))

    assert numbers("style") == [13, 15, 17]
    assert numbers("layout") == [9, 11, 31]
    assert numbers("style and layout") == [9, 11, 13, 15, 17, 31]
