"""The table of kernels: what is chosen where, what each operator gives, and that it is the attention.

CUDA's operators are called on fake tensors everywhere: torch then runs their checks of shapes and types
alone. Where a card is, the same entries run on it.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from zsamb_core.style_aligned import kernels
from zsamb_core.style_aligned.attention import Part, merge_heads, shared_attention, split_heads
from zsamb_core.style_aligned.kernels import CUDNN, KERNELS, Card, attention_lse, card, choose

HALVES = (torch.float16, torch.bfloat16)
HALVES_AND_SINGLE = (*HALVES, torch.float32)
TYPES = (*HALVES_AND_SINGLE, torch.float64, torch.float8_e4m3fn, torch.int8)
CPU, EFFICIENT, FLASH, DNN = "flash for CPU", "memory-efficient", "flash", "cuDNN"


def cuda(*capability, cudnn=CUDNN, flash=True):
    return Card("cuda", False, capability, cudnn, flash)


HOPPER = cuda(9, 0)
CARDS = {
    "CPU": (Card("cpu"), dict.fromkeys((*HALVES_AND_SINGLE, torch.float64), CPU)),
    "CPU, AMD's torch": (Card("cpu", rocm=True), dict.fromkeys((*HALVES_AND_SINGLE, torch.float64), CPU)),
    "Hopper": (HOPPER, {**dict.fromkeys(HALVES, DNN), torch.float32: EFFICIENT}),
    "Hopper, older cuDNN": (
        cuda(9, 0, cudnn=CUDNN - 1),
        {**dict.fromkeys(HALVES, FLASH), torch.float32: EFFICIENT},
    ),
    "Ampere": (cuda(8, 6), {**dict.fromkeys(HALVES, FLASH), torch.float32: EFFICIENT}),
    "Blackwell": (cuda(10, 0), {**dict.fromkeys(HALVES, FLASH), torch.float32: EFFICIENT}),
    "Blackwell at home": (cuda(12, 0), {**dict.fromkeys(HALVES, FLASH), torch.float32: EFFICIENT}),
    "without flash": (cuda(8, 6, flash=False), dict.fromkeys(HALVES_AND_SINGLE, EFFICIENT)),
    "Turing": (cuda(7, 5), dict.fromkeys((torch.float16, torch.float32), EFFICIENT)),
    "before Maxwell": (cuda(3, 7), {}),
    "AMD": (Card("cuda", rocm=True), {}),
    "Apple": (Card("mps"), {}),
    "Intel": (Card("xpu"), {}),
    "DirectML": (Card("privateuseone"), {}),
}


def names(chosen):
    return {key: kernel.name for key, kernel in chosen.items() if kernel is not None}


@pytest.mark.parametrize("name", CARDS)
def test_a_kernel_is_chosen_by_card_and_type(name):
    device, expected = CARDS[name]
    assert names({dtype: choose(device, dtype, 64, 4096) for dtype in TYPES}) == expected


def test_a_kernel_is_chosen_by_head_width():
    """64 is SDXL's. What no kernel takes is concatenated."""
    widths = (8, 36, 40, 64, 128, 136, 160, 256, 264, 512)
    half = names({width: choose(HOPPER, torch.float16, width, 4096) for width in widths})
    assert half == {
        **dict.fromkeys((8, 40, 64, 128), DNN),
        **dict.fromkeys((136, 160, 256), FLASH),
        **dict.fromkeys((264, 512), EFFICIENT),
    }
    single = names({width: choose(HOPPER, torch.float32, width, 4096) for width in (34, 36, 64)})
    assert single == dict.fromkeys((36, 64), EFFICIENT)
    assert choose(Card("cpu"), torch.float32, 7, 1).name == CPU


def test_one_token_is_no_work_for_cudnn():
    assert choose(HOPPER, torch.float16, 64, 1).name == FLASH


def test_torchs_own_switches_count():
    switch = torch.backends.cuda
    before = switch.cudnn_sdp_enabled(), switch.flash_sdp_enabled()
    try:
        switch.enable_cudnn_sdp(False)
        assert choose(HOPPER, torch.float16, 64, 4096).name == FLASH
        switch.enable_flash_sdp(False)
        assert choose(HOPPER, torch.float16, 64, 4096).name == EFFICIENT
    finally:
        switch.enable_cudnn_sdp(before[0])
        switch.enable_flash_sdp(before[1])
    assert choose(HOPPER, torch.float16, 64, 4096).name == DNN


def test_where_no_kernel_keeps_its_log_sum_exp_the_error_says_so():
    q = torch.zeros(1, 1, 2, 8, device="meta")
    with pytest.raises(NotImplementedError, match="torch.float32 on meta"):
        attention_lse(q, q, q, 1.0)


# What the pack calls torch's private operators with, and what it takes of the answer.
OPERATORS = {
    DNN: ("Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp", "scale"),
    FLASH: ("Tensor query, Tensor key, Tensor value", "scale"),
    EFFICIENT: (
        "Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp",
        "scale",
    ),
    CPU: ("Tensor query, Tensor key, Tensor value", "scale"),
}


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_torch_still_has_the_operators(kernel):
    """They are private, so a release of torch may change them without a word."""
    leading, scale = OPERATORS[kernel.name]
    advice = (
        f"torch {torch.__version__} has another aten::{kernel.operator} than the pack calls. Read its schema,"
        " mend the call in kernels.py for old and new torch, and this test. Until then take the entry out of"
        " KERNELS: the next one, or concatenation, does its work."
    )
    operator = getattr(torch.ops.aten, kernel.operator, None)
    assert operator is not None, advice
    schema = operator.default._schema
    assert str(schema).partition("(")[2].startswith(leading), advice
    positional = leading.count(",") + 1
    assert all(a.has_default_value() for a in schema.arguments[positional:]), advice
    assert next(a for a in schema.arguments if a.name == scale).kwarg_only, advice
    assert [str(r.type) for r in schema.returns[:2]] == ["Tensor", "Tensor"], advice


ON_CUDA = [kernel for kernel in KERNELS if kernel.name != CPU]


def heads_of(rows, tokens, heads, width, device, dtype):
    """A strided view, as a layer's heads are."""
    return split_heads(torch.empty(rows, tokens, heads * width, device=device, dtype=dtype), heads)


@pytest.mark.parametrize("kernel", ON_CUDA, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_an_operator_of_cuda_gives_output_and_log_sum_exp(kernel, dtype):
    """On a fake card: another number of keys than queries, heads split without a copy, and joined so."""
    with FakeTensorMode():
        q = heads_of(2, 100, 10, 64, "cuda", dtype)
        k, v = (heads_of(2, 77, 10, 64, "cuda", dtype) for _ in "kv")
        out, lse = kernel.call(q, k, v, 0.1)
        assert (out.shape, out.dtype, out.device.type) == ((2, 10, 100, 64), dtype, "cuda")
        assert lse.shape[:2] == (2, 10) and lse.ndim == 3 and lse.shape[2] >= 100
        assert lse.dtype == torch.float32
        joined = merge_heads(out)
        assert joined.shape == (2, 100, 640) and joined._base is not None, "joining the heads copied them"


@pytest.mark.parametrize("name", [name for name, (c, chosen) in CARDS.items() if c.kind == "cuda" and chosen])
def test_shared_attention_runs_on_a_fake_card(name, monkeypatch):
    """By the operator that the table names, each part, without a copy and without waiting for the card."""
    device, chosen = CARDS[name]
    monkeypatch.setattr(kernels, "card", lambda _: device)
    for dtype, kernel in chosen.items():
        operator = next(k.operator for k in KERNELS if k.name == kernel)
        with FakeTensorMode(), Calls() as calls:
            q, k, v = (torch.empty(2, 3, 4096, 640, device="cuda", dtype=dtype) for _ in "qkv")
            parts = [
                [Part(*(torch.empty(1024, 640, device="cuda", dtype=dtype) for _ in "kv"), 0.7)] for _ in "+-"
            ]
            out = shared_attention(q, k, v, parts, 10)
        assert (out.shape, out.dtype, out.device.type) == (q.shape, dtype, "cuda")
        assert calls.count(operator) == 3
        assert not {"clone", "copy_", "cat", "contiguous", "_local_scalar_dense"} & set(calls.names)


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """The names of all operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name.partition("::")[2])
        return func(*args, **(kwargs or {}))

    def count(self, name):
        return self.names.count(name)


def test_a_fake_card_refuses_to_be_waited_for():
    """So the tests above would see it."""
    with FakeTensorMode(), pytest.raises(Exception, match="_local_scalar_dense"):
        bool(torch.ones(1, device="cuda").sum() > 0)


def runs_here(kernel, dtype):
    device = torch.device("cpu" if kernel.name == CPU else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        return "no CUDA device"
    taken = kernel.takes(card(device), dtype, 64, 77) and kernel.allowed()
    return None if taken else f"this device has no {kernel.name} kernel for {dtype}"


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("dtype", (*HALVES_AND_SINGLE, torch.float64), ids=str)
def test_a_kernel_gives_attention_and_the_natural_log_sum_exp(kernel, dtype):
    """Against the definition in fp64, on the device that the entry is for."""
    reason = runs_here(kernel, dtype)
    if reason:
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(0)
    device = "cpu" if kernel.name == CPU else "cuda"
    q, k, v = (
        split_heads(torch.randn(2, n, 192, generator=generator).to(device, dtype), 3) for n in (100, 77, 77)
    )
    out, lse = kernel.call(q, k, v, 0.3)
    logits = q.double() @ k.double().transpose(-1, -2) * 0.3
    # Logits of up to 20 are summed up in fp32; for halves the CPU's exponentials are coarser.
    single, eps = 64 * torch.finfo(torch.float32).eps, torch.finfo(dtype).eps
    sums = torch.logsumexp(logits, -1)
    torch.testing.assert_close(lse[..., :100].double(), sums, rtol=0, atol=single + eps / 8)
    expected = torch.softmax(logits, -1) @ v.double()
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=single + 8 * eps)


def test_a_card_is_read_once():
    assert (
        card(torch.device("cpu")) is card(torch.device("cpu")) == Card("cpu", torch.version.hip is not None)
    )
