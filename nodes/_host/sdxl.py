"""What counts as SDXL: its base class and its eleven attention blocks, read from the model itself."""

import comfy.model_base
import comfy.model_sampling
from comfy.ldm.modules.attention import SpatialTransformer

# The host's names of SDXL's attention blocks.
SDXL_BLOCKS = (
    *(("input", i) for i in (4, 5, 7, 8)),
    ("middle", 0),
    *(("output", i) for i in range(6)),
)


def attention_blocks(model) -> tuple[tuple[str, int], ...]:
    """The (name, number) of every block of a MODEL's UNet that holds self-attention, in execution order."""
    unet = model.model.diffusion_model
    found = []
    for name in ("input_blocks", "middle_block", "output_blocks"):
        group = getattr(unet, name, None) or []
        blocks = [group] if name == "middle_block" else group
        for i, block in enumerate(blocks):
            if any(isinstance(m, SpatialTransformer) for m in block):
                found.append((name.split("_")[0], i))
    return tuple(found)


def attention_layers(model) -> tuple[tuple[str, int, int], ...]:
    """The (name, number, index) of every self-attention layer of a MODEL's UNet: its block, and its place
    there.
    """
    unet, found = model.model.diffusion_model, []
    for name, number in attention_blocks(model):
        block = unet.middle_block if name == "middle" else getattr(unet, f"{name}_blocks")[number]
        depth = sum(len(m.transformer_blocks) for m in block if isinstance(m, SpatialTransformer))
        found += [(name, number, i) for i in range(depth)]
    return tuple(found)


def require_sdxl(model, node: str) -> None:
    """Raises ValueError, naming what was found, unless ``model`` is SDXL-shaped."""
    kind = type(model.model).__name__
    if not isinstance(model.model, comfy.model_base.SDXL):
        raise ValueError(
            f"{node}: the model input is a {kind}, expected an SDXL model. Load an SDXL checkpoint "
            "(for example sd_xl_base_1.0.safetensors in models/checkpoints) or use Load Demo Model."
        )
    blocks = attention_blocks(model)
    if blocks != SDXL_BLOCKS:
        raise ValueError(
            f"{node}: the model input has attention in the blocks {_names(blocks)}, expected SDXL's "
            f"{_names(SDXL_BLOCKS)}. Distilled and refiner variants of SDXL are not supported."
        )


def require_additive_noise(model, node: str) -> None:
    """Raises ValueError for models whose noised latent is not ``x0 + sigma * noise``, such as rectified
    flows: a reference's path would not be where such a model looks.
    """
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.EPS):
        kinds = [
            kind.__name__
            for kind in type(sampling).__mro__
            if kind.__module__ == comfy.model_sampling.__name__
        ]
        raise ValueError(
            f"{node}: the model input samples as {', '.join(kinds)}, expected eps, v-prediction or EDM. Use"
            " SharedAttention Patch without a reference on this model: the first picture is then the"
            " reference."
        )


def _names(blocks) -> str:
    return ", ".join(f"{name} {number}" for name, number in blocks) or "none"
