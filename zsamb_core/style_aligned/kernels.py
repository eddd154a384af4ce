"""Kernels that give attention together with the log-sum-exp of its logits: which there are, and where each
runs.

torch has one per kind of device, as private operators behind `scaled_dot_product_attention`, which itself
keeps the log-sum-exp back. `KERNELS` is tried in order. Its conditions are those under which torch takes the
same kernel by itself; they are read from the device's properties, once, without waiting for the device.

Shapes: B rows, H heads, N queries, M keys of width D. Operators read strided views: heads are split without a
copy.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
# The first cuDNN that torch trusts by itself: earlier ones err where tokens are no multiple of 128
# (pytorch/pytorch issue 169849).
CUDNN = 91501


class Card(NamedTuple):
    """What a choice needs to know of a device. ``kind``: torch's name of its type; ``rocm``: AMD's torch,
    which calls itself cuda; ``capability``: CUDA's compute capability; ``cudnn``: version of cuDNN, 0
    without; ``flash``: whether torch was built with flash attention.
    """

    kind: str
    rocm: bool = False
    capability: tuple[int, int] = (0, 0)
    cudnn: int = 0
    flash: bool = False


@cache
def card(device: torch.device) -> Card:
    """Read once per device."""
    if device.type != "cuda" or torch.version.hip is not None:
        return Card(device.type, rocm=torch.version.hip is not None)
    built = getattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    capability = torch.cuda.get_device_capability(device)
    return Card("cuda", False, capability, torch.backends.cudnn.version() or 0, built())


class Kernel(NamedTuple):
    """A fused attention kernel of torch that also returns the natural log-sum-exp of its logits.

    ``operator`` is its name in ``torch.ops.aten``; ``takes`` (card, dtype, head width, fewest tokens on a
    side) says where it runs; ``allowed`` whether torch's own switch is on; ``call`` (q, k, v, scale) gives
    (B, H, N, D) and fp32 (B, H, N), which may be padded behind.
    """

    name: str
    operator: str
    takes: Callable[[Card, torch.dtype, int, int], bool]
    allowed: Callable[[], bool]
    call: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def _cudnn(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, scale=scale)[:2]
    return out, lse.squeeze(-1)


def _cudnn_takes(card: Card, dtype: torch.dtype, width: int, tokens: int) -> bool:
    """Hopper alone, as torch does by itself, but for Blackwell's data center cards: there an issue about
    wrong results is open (pytorch/pytorch 193893).
    """
    able = card.kind == "cuda" and not card.rocm and card.capability == (9, 0) and card.cudnn >= CUDNN
    return able and dtype in HALVES and width % 8 == 0 and width <= 128 and tokens > 1


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)[:2]
    return out, lse


def _flash_takes(card: Card, dtype: torch.dtype, width: int, tokens: int) -> bool:
    """From Ampere on. The operator wants widths of a multiple of 8, and has none above 256."""
    able = card.kind == "cuda" and not card.rocm and card.capability >= (8, 0) and card.flash
    return able and dtype in HALVES and width % 8 == 0 and width <= 256


def _efficient(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)[:2]
    return out, lse


def _efficient_takes(card: Card, dtype: torch.dtype, width: int, tokens: int) -> bool:
    """All cards that torch still knows; bf16 from Ampere on. Rows of q, k and v begin at 16 bytes."""
    if card.kind != "cuda" or card.rocm or card.capability < (5, 0):
        return False
    if dtype == torch.bfloat16 and card.capability < (8, 0):
        return False
    return (dtype in HALVES and width % 8 == 0) or (dtype == torch.float32 and width % 4 == 0)


def _cpu(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    return out, lse


def _cpu_takes(card: Card, dtype: torch.dtype, width: int, tokens: int) -> bool:
    return card.kind == "cpu" and dtype in (*HALVES, torch.float32, torch.float64)


def _always() -> bool:
    return True


_switches = torch.backends.cuda
KERNELS = (
    Kernel(
        "cuDNN",
        "_scaled_dot_product_cudnn_attention",
        _cudnn_takes,
        getattr(_switches, "cudnn_sdp_enabled", _always),  # torch before 2.5 has none
        _cudnn,
    ),
    Kernel("flash", "_scaled_dot_product_flash_attention", _flash_takes, _switches.flash_sdp_enabled, _flash),
    Kernel(
        "memory-efficient",
        "_scaled_dot_product_efficient_attention",
        _efficient_takes,
        _switches.mem_efficient_sdp_enabled,
        _efficient,
    ),
    # AMD's torch has flash and memory-efficient kernels on some cards only, so it is left to concatenation.
    Kernel("flash for CPU", "_scaled_dot_product_flash_attention_for_cpu", _cpu_takes, _always, _cpu),
)


def choose(card: Card, dtype: torch.dtype, width: int, tokens: int) -> Kernel | None:
    """The first of `KERNELS` for heads of ``width``, with at least ``tokens`` queries and keys; None where
    torch has none.
    """
    return next((k for k in KERNELS if k.takes(card, dtype, width, tokens) and k.allowed()), None)


def kernel_for(q: Tensor, k: Tensor) -> Kernel | None:
    """For q (B, H, N, D) and k (B, H, M, D)."""
    return choose(card(q.device), q.dtype, q.shape[-1], min(q.shape[-2], k.shape[-2]))


def attention_lse(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Plain attention and the log-sum-exp of its logits: (B, H, N, D) and fp32 (B, H, N).

    Raises NotImplementedError where no kernel returns it.
    """
    kernel = kernel_for(q, k)
    if kernel is None:
        raise NotImplementedError(
            f"no attention kernel that returns its log-sum-exp for {q.dtype} on {q.device.type}"
        )
    out, lse = kernel.call(q, k, v, scale)
    return out, lse[..., : q.shape[-2]].float()
