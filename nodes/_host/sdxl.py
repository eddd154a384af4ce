"""What counts as SDXL: its base class and its eleven attention blocks, read from the model itself."""

from typing import Any

import comfy.model_base
import comfy.model_sampling
import comfy.supported_models
from comfy.ldm.modules.attention import SpatialTransformer

from ...zsamb_core.layers import SDXL_BLOCKS, Block, Layer, block_names
from .types import Model


def attention_blocks(model: Model) -> tuple[Block, ...]:
    """Every block of a MODEL's UNet that holds self-attention, in execution order."""
    unet = model.model.diffusion_model
    with_attention = []
    for name in ("input_blocks", "middle_block", "output_blocks"):
        group = getattr(unet, name, None) or []
        blocks = [group] if name == "middle_block" else group
        for i, block in enumerate(blocks):
            if any(isinstance(m, SpatialTransformer) for m in block):
                with_attention.append((name.split("_")[0], i))
    return tuple(with_attention)


def attention_layers(model: Model) -> tuple[Layer, ...]:
    """Every self-attention layer of a MODEL's UNet. Cross-attention is in the same layers."""
    return tuple(layer for layer, _ in _transformer_blocks(model))


def _transformer_blocks(model: Model) -> list[tuple[Layer, Any]]:
    """(layer, module) of a MODEL's UNet, in execution order."""
    unet, layers = model.model.diffusion_model, []
    for name, number in attention_blocks(model):
        block = unet.middle_block if name == "middle" else getattr(unet, f"{name}_blocks")[number]
        inner = [m for t in block if isinstance(t, SpatialTransformer) for m in t.transformer_blocks]
        layers += [(Layer(name, number, i), module) for i, module in enumerate(inner)]
    return layers


def self_attention(model: Model) -> dict[Layer, int]:
    """The width of every self-attention layer of a MODEL."""
    return {layer: m.attn1.heads * m.attn1.dim_head for layer, m in _transformer_blocks(model)}


def cross_attention(model: Model, context: int, node: str) -> dict[Layer, int]:
    """The width of every cross-attention layer of a MODEL. Raises ValueError for a model without, or whose
    context is not of ``context`` channels.
    """
    blocks = _transformer_blocks(model)
    if not blocks or any(getattr(m, "attn2", None) is None for _, m in blocks):
        raise ValueError(
            f"{node}: the model input is {kind_of(model)}, expected SDXL or SD1.5, which have"
            " cross-attention. Load such a checkpoint."
        )
    width = blocks[0][1].attn2.to_k.in_features
    if width != context:
        kinds = {2048: "SDXL", 1024: "SD2", 768: "SD1.5"}
        raise ValueError(
            f"{node}: the adapter makes tokens of {context} channels ({kinds.get(context, 'another model')}),"
            f" and the model's context has {width} ({kinds.get(width, 'another model')}). Load an adapter"
            " made for this kind of model."
        )
    return {layer: m.attn2.heads * m.attn2.dim_head for layer, m in blocks}


def require_sdxl(model: Model, node: str) -> None:
    """Raises ValueError, naming what was found, unless ``model`` is SDXL-shaped."""
    if not isinstance(model.model, comfy.model_base.SDXL):
        raise ValueError(
            f"{node}: the model input is {kind_of(model)}, expected an SDXL model. Load an SDXL checkpoint "
            "(for example sd_xl_base_1.0.safetensors in models/checkpoints) or use Load Demo Model."
        )
    blocks = attention_blocks(model)
    if blocks != SDXL_BLOCKS:
        raise ValueError(
            f"{node}: the model input has attention in the blocks {block_names(blocks) or 'none'}, expected"
            f" SDXL's {block_names(SDXL_BLOCKS)}. Distilled and refiner variants of SDXL are not supported."
        )


def kind_of(model: Model) -> str:
    """What a MODEL is, for messages. SD1.5 and SD2 have one class in the host, and configs of their own."""
    config = getattr(model.model, "model_config", None)
    for known, name in ((comfy.supported_models.SD15, "SD1.5"), (comfy.supported_models.SD20, "SD2")):
        if isinstance(config, known):
            return f"an {name} model"
    return f"a {type(model.model).__name__}"


def context_width(model: Model) -> int | None:
    """The channels of the prompts' tokens that a MODEL's UNet takes; None where its loader does not say."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", None) or {}
    return config.get("context_dim")


def require_additive_noise(model: Model, node: str) -> None:
    """Raises ValueError for models whose noised latent is not ``x0 + sigma * noise``, such as rectified
    flows: a reference's path would not be where such a model looks.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.EPS):
        kinds = [
            kind.__name__
            for kind in type(sampling).__mro__
            if kind.__module__ == comfy.model_sampling.EPS.__module__
        ]
        raise ValueError(
            f"{node}: the model input samples as {', '.join(kinds)}, expected eps, v-prediction or EDM. Use"
            " SharedAttention Patch without a reference on this model: the first picture is then the"
            " reference."
        )
