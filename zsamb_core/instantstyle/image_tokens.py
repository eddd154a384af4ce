"""From an image encoder's output to an IP-Adapter's tokens, and from those to keys and values.

Ye, Zhang, Liu, Han, Yang: *IP-Adapter* (arXiv 2308.06721), equation 5, and the Resampler of its plus
variants, which is Flamingo's Perceiver.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from .adapter_file import HEAD_WIDTH, Adapter, finite


def image_tokens(state: Mapping[str, torch.Tensor], kind: str, features: torch.Tensor) -> torch.Tensor:
    """Tokens (n, T, C): for "base" from projected embeddings (n, D), for "plus" from hidden states (n, L, D).
    ``state`` as `Adapter.read_projector` gives it.
    """
    return project(state, features) if kind == "base" else resample(state, features)


def project(state: Mapping[str, torch.Tensor], embeds: torch.Tensor) -> torch.Tensor:
    """LayerNorm(reshape(W e + b, [T, C])): (n, D) to (n, T, C). A zero embedding gives the tokens of no
    image, which training teaches by dropping images; those are not zero.
    """
    width = state["norm.weight"].shape[0]
    tokens = F.linear(embeds, state["proj.weight"], state["proj.bias"]).unflatten(-1, (-1, width))
    return F.layer_norm(tokens, (width,), state["norm.weight"], state["norm.bias"])


def resample(state: Mapping[str, torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states (n, L, D) to tokens (n, T, C): learned latents attend to the states and to each other."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    x = F.linear(hidden, state["proj_in.weight"], state["proj_in.bias"])
    latents = state["latents"].expand(len(x), -1, -1)
    depth = 0
    while f"layers.{depth}.0.to_q.weight" in state:
        layer = f"layers.{depth}"
        n = norm(latents, f"{layer}.0.norm2")
        q = F.linear(n, state[f"{layer}.0.to_q.weight"])
        both = torch.cat([norm(x, f"{layer}.0.norm1"), n], 1)
        k, v = F.linear(both, state[f"{layer}.0.to_kv.weight"]).chunk(2, -1)
        q, k, v = (y.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for y in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(HEAD_WIDTH))
        latents = latents + F.linear(seen.transpose(1, 2).flatten(2), state[f"{layer}.0.to_out.weight"])
        n = F.gelu(F.linear(norm(latents, f"{layer}.1.0"), state[f"{layer}.1.1.weight"]))
        latents = latents + F.linear(n, state[f"{layer}.1.3.weight"])
        depth += 1
    return norm(F.linear(latents, state["proj_out.weight"], state["proj_out.bias"]), "norm_out")


def keys_and_values(
    adapter: Adapter, tokens: torch.Tensor, numbers: list[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """``K = W_k tokens, V = W_v tokens`` of the attention layers with the given ``numbers``, from tokens
    (..., C) to (..., width), in fp32. Reads the weights of one layer at a time and keeps none. Raises
    ValueError for weights that are not finite.
    """
    projected: dict[int, list[torch.Tensor]] = {n: [] for n in numbers}
    names = [f"ip_adapter.{n}.to_{p}_ip.weight" for n in numbers for p in "kv"]
    for (name, weight), n in zip(adapter.read(names), (n for n in numbers for _ in "kv"), strict=True):
        projected[n].append(F.linear(tokens, finite(weight, adapter.path, name)))
    return {n: (k, v) for n, (k, v) in projected.items()}
