"""Where the time of one step goes: ``python -m benchmarks.step``.

A step is one call of the model at a new noise level, on a positive and a negative row for each picture. Its
parts are timed inside it: the references' own call, and in the targets' layers AdaIN, attention and merge.
Patched and stock take turns in one run; ratios are medians over the rounds. SDXL is in bf16, 5 GB of weights.
"""

import argparse
import statistics
import time
from collections import defaultdict
from contextlib import contextmanager

import torch

from demo.training.hosting import import_host
from demo.training.measure import load_pack

from . import ip_adapter, operators


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


def profile(pack, name: str, model, batch: int, side: int, references: int, rounds: int) -> None:
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
    stock = statistics.median(stock_seconds)
    print(f"{name}: stock {stock:.3f} s, patched {statistics.median(seconds):.2f} times as long")
    for part, shares in parts.items():
        print(f"  {part:32}{statistics.median(shares):7.1%} of the patched step")


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
    parser.add_argument("--model", choices=("demo", "sdxl"), action="append", help="both if not given")
    parser.add_argument("--pixels", type=int, help="128 for the demo, 256 for SDXL if not given")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--references", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import_host()
    pack = load_pack()
    import comfy.model_management

    for name in args.model or ("demo", "sdxl"):
        if name == "demo":
            model = pack.nodes.demo_model.LoadDemoModel.execute().result[0]
            comfy.model_management.load_model_gpu(model)
        else:
            model = ip_adapter.sdxl(comfy.model_management.get_torch_device(), torch.bfloat16)
        side = (args.pixels or {"demo": 128, "sdxl": 256}[name]) // 8
        title = f"{name}, {args.pictures} pictures of {side * 8} px, {args.references} references"
        profile(pack, title, model, args.pictures, side, args.references, args.rounds)


if __name__ == "__main__":
    main()
