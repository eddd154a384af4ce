"""What style images add to a model's cross-attention, ready to be read at every step.

InstantStyle and IP-Adapter: ``out = attn(q, K_text, V_text) + w attn(q, K_image, V_image)``, with w by layer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from ..layers import Layer, block_name, block_names
from ..schedule import Window
from .adapter_file import Adapter
from .blocks import adapter_keys
from .image_tokens import image_tokens, keys_and_values
from .style_embeds import StyleEmbeds, refuse_pairing


@dataclass(frozen=True, eq=False)
class Seen:
    """Keys and values (T, C) by layer, of the images or of what the unconditional branch sees instead;
    ``bias`` (T,): added to the attention's logits, the logarithm of what each image counts. None where all
    count the same.
    """

    layers: Mapping[Layer, tuple[torch.Tensor, torch.Tensor]]
    bias: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class StyleImages:
    """``weights`` by layer, a negative one with sides swapped; ``mask`` (1 or pictures, H, W), or None."""

    image: Seen
    blank: Seen
    weights: Mapping[Layer, float]
    window: Window = Window()
    mask: torch.Tensor | None = None

    def scaled(self, weight: float) -> "StyleImages":
        return replace(self, weights={layer: w * weight for layer, w in self.weights.items()})


def project_images(
    adapter: Adapter,
    embeds: StyleEmbeds,
    weights: Mapping[Layer, float],
    structure: Mapping[Layer, int],
    negative: StyleEmbeds | None = None,
) -> StyleImages:
    """Image keys and values for the layers of ``weights``, on the CPU in fp32: they depend on nothing that
    changes while sampling. Reads the projector and the weights of those layers, no other tensor.

    ``structure``: the width of every cross-attention layer of the model. The unconditional branch sees
    ``negative``, or no image: the projection of a zero embedding (base), or of the hidden states of zero
    pixels (plus), as in the reference implementation. Images of unlike weight meet in one softmax, with the
    logarithm of their weight, 1 on average, on the logits: a weight of m is the image repeated m times, and
    it holds after the projection, whose LayerNorm would cancel it before. Raises ValueError for an encoder
    or a model that the adapter is not made for.
    """
    sides = [embeds.counted(), negative.counted() if negative is not None else None]
    for side in filter(None, sides):
        refuse_pairing(adapter.projector, side.encoder)
        if side.changed and adapter.projector.kind != "base":
            raise ValueError(
                "content was subtracted from the style embeds, and this is a plus adapter, which reads patch"
                " features that content cannot be subtracted from. Use a base adapter"
                " (ip-adapter_sdxl_vit-h, ip-adapter_sdxl), or leave the subtraction out."
            )
    keys = adapter_keys(structure)
    refuse_structure(adapter, structure, [layer for layer in structure if layer in weights])
    state = adapter.read_projector()
    tokens = [tokens_of(adapter, state, side if side else blank(embeds)) for side in sides]
    biases = [image_bias(side, adapter.projector.tokens) if side else None for side in sides]
    length = max(len(t) for t in tokens)
    sized = [lengthened(t, b, length) for t, b in zip(tokens, biases, strict=True)]
    numbers = {layer: keys[layer] for layer in structure if layer in weights}
    projected = keys_and_values(adapter, torch.stack([t for t, _ in sized]), list(numbers.values()))
    image, empty = (
        Seen({layer: (projected[n][0][i], projected[n][1][i]) for layer, n in numbers.items()}, sized[i][1])
        for i in range(2)
    )
    return StyleImages(image, empty, {layer: weights[layer] for layer in numbers})


def blank(embeds: StyleEmbeds) -> StyleEmbeds:
    """No image, as the same encoder gives it."""
    return StyleEmbeds(
        embeds.encoder, torch.zeros_like(embeds.pooled[:1]), embeds.blank[None], embeds.blank, (1.0,)
    )


def tokens_of(adapter: Adapter, state: Mapping[str, torch.Tensor], embeds: StyleEmbeds) -> torch.Tensor:
    """(images * tokens, width), one image after the other."""
    kind = adapter.projector.kind
    features = embeds.pooled if kind == "base" else embeds.hidden
    return image_tokens(state, kind, features.float()).flatten(0, 1)


def lengthened(
    tokens: torch.Tensor, bias: torch.Tensor | None, length: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``length`` tokens that attention sees as it sees the given ones, so that both branches share a batch:
    copies of them all where they come out even, else more with a logit of minus infinity.
    """
    times, rest = divmod(length, len(tokens))
    if not rest:
        return tokens.repeat(times, 1), bias.repeat(times) if bias is not None else None
    bias = torch.zeros(len(tokens)) if bias is None else bias
    more = length - len(tokens)
    empty = tokens.new_zeros(more, tokens.shape[1])
    return torch.cat([tokens, empty]), torch.cat([bias, bias.new_full((more,), -math.inf)])


def image_bias(embeds: StyleEmbeds, tokens: int) -> torch.Tensor | None:
    """The logarithm of each image's weight over their mean, for each of its tokens; None for equal ones."""
    if len(set(embeds.weights)) == 1:
        return None
    weights = torch.tensor(embeds.weights, dtype=torch.float64)
    return (weights / weights.mean()).log().float().repeat_interleave(tokens)


def refuse_structure(adapter: Adapter, structure: Mapping[Layer, int], wanted: list[Layer]) -> None:
    """Raises ValueError unless the file has what ``wanted`` needs, and nothing that the model has no layer
    for.
    """
    keys = adapter_keys(structure)
    last = max(adapter.layers)
    if last >= 2 * len(structure):
        raise ValueError(
            f"the adapter has a layer {last}, and the model has {len(structure)} cross-attention layers, so"
            f" the last is {2 * len(structure) - 1}. {_families(adapter, len(structure))}"
        )
    missing = [layer.block for layer in wanted if keys[layer] not in adapter.layers]
    if missing:
        there = [layer.block for layer, n in keys.items() if n in adapter.layers]
        raise ValueError(
            f"the adapter {adapter.path.name} has nothing for {block_names(missing)}, it has only"
            f" {block_names(there)}. Choose a preset within those, or use the full adapter."
        )
    for layer, number in keys.items():
        if adapter.layers.get(number, structure[layer]) != structure[layer]:
            raise ValueError(
                f"the adapter's layer {number} is {adapter.layers[number]} wide, and the model's"
                f" ({block_name(layer.block)}, layer {layer.position}) {structure[layer]}."
                f" {_families(adapter, len(structure))}"
            )


def _families(adapter: Adapter, model_layers: int) -> str:
    """Which models adapter and model belong to, as far as their numbers tell."""
    kinds = {2048: "SDXL (tokens of 2048)", 768: "SD1.5 (tokens of 768)"}
    models = {70: "SDXL's number", 16: "SD1.5's number"}
    adapters = kinds.get(adapter.projector.width, f"a model with tokens of {adapter.projector.width}")
    model = f" ({models[model_layers]})" if model_layers in models else ""
    return (
        f"The adapter is for {adapters}; the model has {model_layers} layers{model}. Load an adapter made for"
        " this kind of model."
    )
