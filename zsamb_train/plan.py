"""``zsamb train --plan``: memory, floating-point operations and time of a step, before anything is loaded.

The UNet is built without weights, and a step's forward and backward go through it: operations are counted
by torch's own counter, and what is kept for the gradients by its storages. Attention is counted as a fused
kernel does it: it keeps queries, keys, values, output and log-sum-exp, and computes five products backward.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zsamb_core.console import show
from zsamb_core.layers import Layer

from .adapter import StyleAdapter, new_projector, shapes_of
from .host import DEMO, compute_again, empty_unet
from .layers import chosen_layers, numbers_of
from .learning import lasting
from .patches import with_images

GIB = 2**30
FEATURES = {"base": 1280, "plus": 1280}  # of SDXL's ViT-bigG and ViT-H
TOKENS = {"base": None, "plus": 257}  # that a plus adapter's encoder gives
TEXT = 77


@dataclass
class Step:
    """Of one picture. ``kept`` bytes for the gradients, of storages that are not weights."""

    forward: float = 0.0
    backward: float = 0.0
    kept: int = 0
    seen: dict[int, Any] = field(default_factory=dict)  # storages, held: none is counted twice

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen[storage._cdata] = storage
            self.kept += storage.nbytes()
        return tensor

    def leave_out(self, module: torch.nn.Module) -> None:
        """Its weights are held anyway."""
        for parameter in module.parameters():
            self.seen[parameter.untyped_storage()._cdata] = parameter.untyped_storage()


class Fused(torch.autograd.Function):
    """Shapes and counts of a fused attention kernel."""

    @staticmethod
    def forward(ctx: Any, step: Step, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> Any:
        out, ctx.step = torch.empty_like(q), step
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[0], heads, q.shape[1], dtype=torch.float32))
        step.forward += 4 * q.numel() * k.shape[1]
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        q, k, v, *_ = ctx.saved_tensors
        ctx.step.backward += 10 * q.numel() * k.shape[1]
        return None, torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None


@dataclass(frozen=True)
class Plan:
    """``weights`` of the adapter that are trained; bytes of the UNet, and of the adapter with its gradients,
    optimizer and average; ``step`` of one picture.
    """

    weights: int
    unet_bytes: int
    adapter_bytes: int
    step: Step

    def lines(self, batch: int, steps: int, tflops: float) -> list[str]:
        each = self.step.forward + self.step.backward
        seconds = each * batch / (tflops * 1e12)
        memory = self.unet_bytes + self.adapter_bytes + batch * self.step.kept
        return [
            f"trained weights: {self.weights / 1e6:.1f} M; the file {self.weights * 2 / 1e6:.0f} MB in fp16",
            f"kept for the gradients: {self.step.kept / GIB:.2f} GiB a picture",
            f"one picture: forward {self.step.forward / 1e12:.2f} TFLOP,"
            f" backward {self.step.backward / 1e12:.2f}, together {each / 1e12:.2f}",
            f"memory with {batch} pictures at once: {memory / GIB:.1f} GiB, of which the UNet"
            f" {self.unet_bytes / GIB:.1f} and the adapter with gradients, optimizer and average"
            f" {self.adapter_bytes / GIB:.1f}; image and text encoders and the VAE are not counted",
            f"at {tflops:g} TFLOP/s: {seconds:.3g} s a step, {batch / seconds:.0f} pictures/s,"
            f" {lasting(steps * seconds)} for {steps} steps",
        ]


def plan(options: argparse.Namespace) -> int:
    """Print the plan; returns the exit code."""
    half = torch.float32 if options.precision == "fp32" else torch.bfloat16
    made = count(
        options.checkpoint == DEMO, options.blocks, options.kind, options.resolution, half,
        options.checkpointing, options.freeze_projector,
    )  # fmt: skip
    show(made.lines(options.batch // options.accumulate, options.steps, options.tflops))
    return 0


def count(
    demo: bool, blocks: str, kind: str, resolution: int, half: torch.dtype, again: bool, frozen: bool
) -> Plan:
    """Raises ValueError for blocks that the model has not."""
    unet, widths, context = empty_unet(demo, half)
    numbers = numbers_of(chosen_layers(blocks, widths), widths)
    features = 128 if demo else FEATURES[kind]
    projector = new_projector(kind, context, features)
    with torch.device("meta"):
        adapter = StyleAdapter(
            projector, shapes_of(projector), {numbers[layer]: widths[layer] for layer in numbers}
        )
    adapter.projector.requires_grad_(not frozen)
    trained = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    every = sum(p.numel() for p in adapter.parameters())
    step = Step()
    if again:
        compute_again(unet)
    one_step(unet, adapter, numbers, step, kind, features, context, resolution // 8, half)
    unet_bytes = sum(p.numel() * p.element_size() for p in unet.parameters())
    return Plan(trained, unet_bytes, 4 * (2 * every + 3 * trained), step)


def one_step(
    unet: torch.nn.Module, adapter: StyleAdapter, numbers: dict[Layer, int], step: Step, kind: str,
    features: int, context: int, side: int, half: torch.dtype,
) -> None:  # fmt: skip
    """One picture through the UNet and back, counted into ``step``."""

    def attention(_: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **__: Any) -> Any:
        return Fused.apply(step, q, k, v, heads)

    def empty(*shape: int, dtype: torch.dtype = half) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    for module in (unet, adapter):
        step.leave_out(module)
    length = TOKENS[kind]
    image = empty(*((1, features) if length is None else (1, length, features)), dtype=torch.float32)
    label: Any = unet.label_emb
    vector = label[0][0].in_features
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(step.keep, lambda x: x):
        options = with_images(adapter(image), numbers, attention)
        out = unet(
            empty(1, 4, side, side), empty(1, dtype=torch.float32), context=empty(1, TEXT, context),
            y=empty(1, vector), transformer_options=options,
        )  # fmt: skip
        loss = out.float().mean()
    step.forward += counter.get_total_flops()
    counter = FlopCounterMode(display=False)
    with counter:
        loss.backward()
    step.backward += counter.get_total_flops()
