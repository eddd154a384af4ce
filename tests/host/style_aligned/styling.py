"""Style images for the demo model: a random adapter file, random embeds, and the node on them."""

import torch

from ..adapters import adapter_state, saved

FEATURES, HIDDEN, LENGTH = 48, 80, 6


def rand(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def context_width(model):
    return model.model.diffusion_model.input_blocks[4][1].transformer_blocks[0].attn2.to_k.in_features


def structure_of(pack, model):
    return pack.nodes._host.sdxl.cross_attention(model, context_width(model), "test")


def make_adapter(pack, model, path, kind="base", seed=1, change=None):
    """STYLE_ADAPTER of a random file for ``model``."""
    features = FEATURES if kind == "base" else HIDDEN
    state = adapter_state(structure_of(pack, model), context_width(model), kind, features, seed=seed)
    if change:
        change(state)
    return pack.zsamb_core.instantstyle.adapter_file.open_adapter(saved(state, path))


def make_embeds(pack, seed=7, count=1, weights=None):
    core = pack.zsamb_core.instantstyle.style_embeds
    return core.StyleEmbeds(
        core.Encoder(HIDDEN, FEATURES),
        rand(seed, count, FEATURES),
        rand(seed + 100, count, LENGTH, HIDDEN),
        rand(99, LENGTH, HIDDEN),
        tuple(weights or (1.0,) * count),
    )


def styled(pack, model, adapter, image, **settings):
    """(MODEL, HOOKS) of StyleBlockIPAdapter."""
    values = {
        "weight": 1.0, "preset": "style", "crop": "centre", "start_percent": 0.0, "end_percent": 1.0,
        "weight_curve": "1", "content": "", "content_scale": 0.5, **settings,
    }  # fmt: skip
    return pack.nodes.ip_adapter.StyleBlockIPAdapter.execute(model, adapter, image, **values).result


def block_weights(pack, layers="", **sliders):
    node = pack.nodes.ip_adapter.BlockWeights
    named = {f"{name}_{number}": 0.0 for name, number in pack.zsamb_core.layers.SDXL_BLOCKS}
    return node.execute(layers, **{**named, **sliders}).result[0]
