"""The adapter that is trained: a projector, and keys and values for the chosen cross-attention layers.

Ye, Zhang, Liu, Han, Yang: *IP-Adapter* (arXiv 2308.06721), equation 5. One call makes all keys and values, so
that DistributedDataParallel sees a forward of its own, and the projector runs once per step. The math is
`zsamb_core.instantstyle.image_tokens`, with which the nodes draw.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from zsamb_core.instantstyle.adapter_file import (
    HEAD_WIDTH,
    Projector,
    base_shapes,
    finite,
    open_adapter,
    resampler_shapes,
)
from zsamb_core.instantstyle.image_tokens import image_tokens

PLUS_TOKENS, PLUS_DEPTH = 16, 4  # of the published plus adapters
BASE_TOKENS = 4
KeysAndValues = dict[int, tuple[torch.Tensor, torch.Tensor]]


class StyleAdapter(nn.Module):
    """``shapes``: of the projector's tensors; ``numbers``: of the trained layers in an adapter file, with
    their widths.
    """

    def __init__(
        self, projector: Projector, shapes: Mapping[str, tuple[int, ...]], numbers: Mapping[int, int]
    ) -> None:
        super().__init__()
        self.made, width = projector, projector.width
        self.projector = nn.ParameterDict(
            {_inside(name): nn.Parameter(torch.empty(shape)) for name, shape in shapes.items()}
        )
        # Read by their file's names; a module's own may hold no dot.
        self.to_k, self.to_v = (
            nn.ParameterDict({str(n): nn.Parameter(torch.empty(w, width)) for n, w in numbers.items()})
            for _ in "kv"
        )

    def forward(self, features: torch.Tensor) -> KeysAndValues:
        """Keys and values (n, T, width) by layer number, in fp32, from what the image encoder gives: (n, D)
        for a base adapter, (n, L, H) for a plus one.
        """
        state = {_outside(name): value for name, value in self.projector.items()}
        tokens = image_tokens(state, self.made.kind, features)
        return {int(n): (F.linear(tokens, self.to_k[n]), F.linear(tokens, self.to_v[n])) for n in self.to_k}

    def file_names(self) -> dict[str, str]:
        """The name of each parameter in a file, by our own."""
        names = {f"projector.{n}": f"image_proj.{_outside(n)}" for n in self.projector}
        return names | {f"to_{p}.{n}": f"ip_adapter.{n}.to_{p}_ip.weight" for n in self.to_k for p in "kv"}


def _inside(name: str) -> str:
    return name.replace(".", "/")


def _outside(name: str) -> str:
    return name.replace("/", ".")


def new_projector(kind: str, width: int, features: int) -> Projector:
    """As published: 4 tokens from one linear layer, or a Resampler's 16, four layers deep."""
    if kind == "base":
        return Projector("base", BASE_TOKENS, width, features)
    return Projector("plus", PLUS_TOKENS, width, features, PLUS_DEPTH)


def shapes_of(projector: Projector) -> dict[str, tuple[int, ...]]:
    """The projector's tensors. A Resampler for SDXL is 1280 wide, with 20 heads; for narrower models as wide
    as their context.
    """
    if projector.kind == "base":
        return base_shapes(projector)
    channels = min(1280, projector.width)
    inner = max(channels // HEAD_WIDTH, 1) * HEAD_WIDTH
    return resampler_shapes(projector, channels, inner, 4 * channels)


@torch.no_grad()
def start_anew(
    adapter: StyleAdapter, own: Mapping[int, tuple[torch.Tensor, torch.Tensor]], generator: torch.Generator
) -> None:
    """The published start: each layer's keys and values as its ``own`` for text, and the projector as torch
    initializes linear layers.
    """
    for name, value in adapter.projector.items():
        if value.ndim == 1:  # norms and biases
            value.fill_(float("norm" in name and name.endswith("weight")))
            if name == "proj/bias" or name in ("proj_in/bias", "proj_out/bias"):
                inputs = adapter.projector[name.replace("bias", "weight")].shape[-1]
                value.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        elif name == "latents":
            value.normal_(0, value.shape[-1] ** -0.5, generator=generator)
        else:
            bound = 1 / math.sqrt(value.shape[-1])
            value.uniform_(-bound, bound, generator=generator)
    for name in adapter.projector:  # the feed-forward's norm has no word in its name
        if name.endswith("/1/0/weight"):
            adapter.projector[name].fill_(1.0)
    take_keys_and_values(adapter, own)


@torch.no_grad()
def take_keys_and_values(
    adapter: StyleAdapter, given: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    for number, (k, v) in given.items():
        if str(number) in adapter.to_k:
            adapter.to_k[str(number)].copy_(k)
            adapter.to_v[str(number)].copy_(v)


@torch.no_grad()
def start_from(
    path: Path, numbers: Mapping[int, int], own: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
) -> tuple[StyleAdapter, list[int]]:
    """An adapter that goes on from a file, and the numbers of the layers that the file lacks, which start as
    their ``own`` for text. Raises ValueError for a file that is no adapter, or not for this model.
    """
    file = open_adapter(path)
    wrong = [n for n, width in numbers.items() if file.layers.get(n, width) != width]
    context = next(iter(own.values()))[0].shape[1]
    if wrong or file.projector.width != context:
        raise ValueError(
            f"--init: {path.name} is for another model: its tokens have {file.projector.width} channels and"
            f" the model's context {context}. Give an adapter of the checkpoint's family."
        )
    state = file.read_projector()
    adapter = StyleAdapter(file.projector, {n: tuple(t.shape) for n, t in state.items()}, numbers)
    for name, value in adapter.projector.items():
        value.copy_(state[_outside(name)])
    take_keys_and_values(adapter, own)
    there = [n for n in numbers if n in file.layers]
    names = [f"ip_adapter.{n}.to_{p}_ip.weight" for n in there for p in "kv"]
    read = {name: finite(tensor, path, name) for name, tensor in file.read(names)}
    take_keys_and_values(
        adapter,
        {n: (read[f"ip_adapter.{n}.to_k_ip.weight"], read[f"ip_adapter.{n}.to_v_ip.weight"]) for n in there},
    )
    return adapter, [n for n in numbers if n not in file.layers]
