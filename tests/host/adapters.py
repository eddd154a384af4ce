"""Random IP-Adapters in the published formats, and encoded images, of any size."""

import torch
from safetensors.torch import save_file

SCALE = 0.3


def rand(generator, *shape, scale=SCALE):
    return torch.randn(*shape, generator=generator) * scale


def base_projector(generator, tokens, width, features):
    return {
        "proj.weight": rand(generator, tokens * width, features),
        "proj.bias": rand(generator, tokens * width),
        "norm.weight": 1 + rand(generator, width, scale=0.1),
        "norm.bias": rand(generator, width),
    }


def plus_projector(generator, tokens, width, features, channels=128, inner=128, depth=4):
    state = {
        "latents": rand(generator, 1, tokens, channels),
        "proj_in.weight": rand(generator, channels, features, scale=0.1),
        "proj_in.bias": rand(generator, channels),
        "proj_out.weight": rand(generator, width, channels, scale=0.1),
        "proj_out.bias": rand(generator, width),
        "norm_out.weight": 1 + rand(generator, width, scale=0.1),
        "norm_out.bias": rand(generator, width),
    }
    for i in range(depth):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            state[f"layers.{i}.{norm}.weight"] = 1 + rand(generator, channels, scale=0.1)
            state[f"layers.{i}.{norm}.bias"] = rand(generator, channels)
        for name, shape in {
            "0.to_q": (inner, channels), "0.to_kv": (2 * inner, channels), "0.to_out": (channels, inner),
            "1.1": (4 * channels, channels), "1.3": (channels, 4 * channels),
        }.items():  # fmt: skip
            state[f"layers.{i}.{name}.weight"] = rand(generator, *shape, scale=0.15)
    return state


def adapter_state(structure, context, kind="base", features=48, tokens=None, seed=1, scale=SCALE):
    """{"image_proj": .., "ip_adapter": ..} for a model's {layer: width}, with the published numbering written
    out here once more: down, up, middle; cross-attention has the odd numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    make = base_projector if kind == "base" else plus_projector
    projector = make(generator, tokens or (4 if kind == "base" else 16), context, features)
    order = [layer for part in ("input", "output", "middle") for layer in structure if layer[0] == part]
    attention = {
        f"{2 * i + 1}.to_{p}_ip.weight": rand(generator, structure[layer], context, scale=scale)
        for i, layer in enumerate(order)
        for p in "kv"
    }
    return {"image_proj": projector, "ip_adapter": attention}


def flat(state):
    return {f"{part}.{name}": t for part, tensors in state.items() for name, t in tensors.items()}


def saved(state, path):
    save_file({name: t.contiguous() for name, t in flat(state).items()}, path)
    return path
