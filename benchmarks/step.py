"""Where the time of one step goes: ``python -m benchmarks.step``.

A step is one call of the model at a new noise level, on a positive and a negative row for each picture. Its
parts are timed inside it: the references' own call, and in the targets' layers AdaIN, attention and merge.
Patched and stock take turns in one run; ratios are medians over the rounds.
"""

import argparse
import statistics
import time
from collections import defaultdict
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from demo.training.hosting import import_host
from demo.training.measure import load_pack

from . import operators
from .figures import keep

CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@contextmanager
def clocked(pack, taken: dict):
    """Adds seconds to ``taken`` by part while open: the pack's functions are timed where they are called."""
    host, core = pack.nodes._host.style_aligned, pack.zsamb_core.style_aligned
    places = [
        (host.call, "record", "reference call"),
        (host.layers, "normalized", "statistics and AdaIN"),
        (core.attention, "attention_lse", "attention, own and references"),
        (core.attention, "merge_lse", "merge"),
        (host.layers, "attend", "patched layers in all"),
    ]
    before = []

    def timed(function, name):
        def call(*args, **kwargs):
            recording = isinstance(host.call.CALL.get(), host.call.Recording)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                # What the references' own call does counts as that call.
                taken[name] += 0.0 if recording else time.perf_counter() - start

        return call

    for module, attribute, name in places:
        before.append((module, attribute, getattr(module, attribute)))
        setattr(module, attribute, timed(before[-1][2], name))
    try:
        yield
    finally:
        for module, attribute, function in before:
            setattr(module, attribute, function)


def profile(pack, name: str, model, batch: int, side: int, references: int, rounds: int) -> dict:
    """Patched against stock, and the parts' shares of the patched step: medians over the rounds."""
    given = inputs_of(model, batch, side)
    style = operators.style_run(pack, batch, side, references, *widths_of(model))
    stock_seconds, seconds, parts = [], [], defaultdict(list)
    for i in range(rounds + 1):  # the first warms up
        start = time.perf_counter()
        operators.call(pack, model, None, given)
        stock = time.perf_counter() - start
        style.bank.clear()
        taken: dict[str, float] = defaultdict(float)
        with clocked(pack, taken):
            # The patches are looked up while the clocks are on.
            run = operators.with_patches(pack, style)
            start = time.perf_counter()
            operators.call(pack, model, run, given)
            patched = time.perf_counter() - start
        if i:
            stock_seconds.append(stock)
            seconds.append(patched / stock)
            for part, value in taken.items():
                parts[part].append(value / patched)
    style.bank.clear()
    outside = {}
    for kind, asked in (("stock", None), ("patched", style)):
        outside[kind] = f"{python_share(pack, model, asked, given):.1%}"
    style.bank.clear()
    stock, ratio = statistics.median(stock_seconds), f"{statistics.median(seconds):.2f}"
    least = f"{floor(pack, model, given, batch, side, references):.2f}"
    print(
        f"{name}: stock {stock:.3f} s, patched {ratio} times as long, at least {least}; outside of torch's"
        f" operators {outside['stock']} of stock's step and {outside['patched']} of the patched one"
    )
    shares = {part: statistics.median(parts[part]) for part in sorted(parts)}
    for part, share in shares.items():
        print(f"  {part:32}{share:7.1%} of the patched step", flush=True)
    return {
        "patched to stock": ratio,
        "its floor": least,
        **{part: f"{share:.1%}" for part, share in shares.items()},
        **{f"{kind}: outside of torch's operators": share for kind, share in outside.items()},
    }


def python_share(pack, model, run, given: dict) -> float:
    """Of one step, under torch's profiler, which itself takes a little."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        operators.call(pack, model, run, given)
        whole = time.perf_counter() - start
    inside = sum(event.self_cpu_time_total for event in profiler.key_averages()) / 1e6
    return max(0.0, 1 - inside / whole)


def floor(pack, model, given: dict, batch: int, side: int, references: int) -> float:
    """Operations that a patched step needs, stock's being 1."""
    host = pack.nodes._host
    count = FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_flops})
    with count:
        operators.call(pack, model, None, given)
    stock, size = count.get_total_flops(), (side, side)
    tokens_of, widths = host.style_aligned.bank_size.tokens_of, host.sdxl.self_attention(model)
    looks = sum(4 * 2 * batch * tokens_of(layer, size) ** 2 * width for layer, width in widths.items())
    return 1 + references * (1 / batch + looks / stock)


def attention_flops(q, k, v, *args, out_shape=None, **kwargs) -> int:
    return sdpa_flop_count(q, k, v)


def widths_of(model) -> tuple[int, int]:
    """Channels of a MODEL's context, and of its vector of pooled text and sizes."""
    unet = model.model.diffusion_model
    return unet.input_blocks[4][1].transformer_blocks[0].attn2.to_k.in_features, unet.label_emb[0][
        0
    ].in_features


def inputs_of(model, batch: int, side: int) -> dict:
    dtype = next(model.model.diffusion_model.parameters()).dtype
    return operators.inputs(batch, side, model.load_device, dtype, *widths_of(model))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--references", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="write the table to docs/measured.md")
    args = parser.parse_args()
    import_host()
    pack = load_pack()
    import comfy.model_management

    model = pack.nodes.demo_model.LoadDemoModel.execute().result[0]
    comfy.model_management.load_model_gpu(model)
    asked = {name: getattr(args, name) for name in ("pixels", "pictures", "references", "rounds")}
    title = f"demo, {args.pictures} pictures of {args.pixels} px, {args.references} references"
    measured = profile(pack, title, model, args.pictures, args.pixels // 8, args.references, args.rounds)
    if args.docs:
        keep("step", [{"model": "demo", **asked, **measured}])


if __name__ == "__main__":
    main()
