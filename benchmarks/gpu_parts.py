"""The parts of `benchmarks.gpu`: is the patched model right, how fast is it, does the demo draw the same."""

import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from zsamb_core.style_aligned.inversion import psnr

from . import ip_adapter, operators
from .ip_adapter import CONFIG

# SDXL's wiring and head width in narrow, for a look without a card.
SMALL = {
    **CONFIG, "model_channels": 32, "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
}  # fmt: skip
# How many times stock's own rounding the merge may err: it rounds two attentions, a weight and their sum.
ALLOWED = 4
DEMO_DB = 30.0  # of the demo's pictures, as PSNR to the CPU's


def exact(function, q, k, v, heads, mask=None, **_):
    """As an override of the host's attention: in fp32, of own and references' keys at once."""
    q, k, v = (x.float().unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else mask.float()[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def concatenated(function, q, k, v, heads, mask=None, **_):
    """The way of most ports: torch's attention over concatenated keys."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    mask = None if mask is None else mask[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def masked(function, q, k, v, heads, mask=None, **more):
    """The same, with a mask always."""
    if mask is None and k.shape[1] > q.shape[1]:
        mask = q.new_zeros(1, q.shape[1], k.shape[1])
    return concatenated(function, q, k, v, heads, mask, **more)


def explicit(function, q, k, v, heads, mask=None, **_):
    """The published way with a shift: a matrix of logits, row by row."""
    rows = []
    for i in range(len(q)):
        q_i, k_i, v_i = (x[i].unflatten(-1, (heads, -1)).transpose(0, 1) for x in (q, k, v))
        logits = q_i @ k_i.transpose(1, 2) * q_i.shape[-1] ** -0.5
        if mask is not None:
            logits = logits + mask[i % len(mask)]
        rows.append((torch.softmax(logits, -1) @ v_i).transpose(0, 1).flatten(1))
    return torch.stack(rows)


def overridden(extra: dict, attention) -> dict:
    return {**extra, "optimized_attention_override": attention}


def with_override(model, attention):
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    clone.model_options["transformer_options"] = overridden(options, attention)
    return clone


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def layer_errors(pack, model, run, given) -> tuple[list[float], list[float]]:
    """By layer, in parts of the output's deviation: how far stock's attention and the patched layer's are
    from the same in fp32.
    """
    host = pack.nodes._host.style_aligned
    stock, patched = [], []

    def far(a, b):
        return float((a.float() - b.float()).abs().max() / b.float().std())

    def watched(q, k, v, extra):
        out = host.layers.attend(q, k, v, extra)
        if isinstance(host.call.CALL.get(), host.call.Sharing):
            oracle = host.layers.attend(q, k, v, overridden(extra, exact))
            patched.append(far(out, oracle))
            own = host.host_attention.host_attention(extra, q, k, v)
            stock.append(far(own, exact(None, q, k, v, extra["n_heads"])))
        return out

    operators.call(pack, model, replace(run, patches=dict.fromkeys(run.patches, watched)), given)
    return stock, patched


def halves_apart(pack, model, run, given) -> float:
    """How far a joint call is from one call for each half, in parts of the joint result's deviation."""

    def of(half):
        if run is not None:
            run.bank.clear()
        part = {name: x[: len(x) // 2] if half else x[len(x) // 2 :] for name, x in given.items()}
        return operators.call(pack, model, run, part, (half,))

    if run is not None:
        run.bank.clear()
    joint = operators.call(pack, model, run, given)
    return float((torch.cat([of(1), of(0)]) - joint).abs().max() / joint.std())


def parity(pack, device: torch.device, small: bool) -> list[dict]:
    """For each type: layers against an oracle over concatenated keys, strength 0, halves apart."""
    side, rows = (8, 2) if small else (64, 2)
    found = []
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        model = ip_adapter.sdxl(device, dtype, SMALL if small else CONFIG)
        for name, weights in model.model.diffusion_model.named_parameters():
            if "attn1.to_q" in name or "attn1.to_k" in name:
                weights.data.mul_(3)  # logits far from even, as trained ones are
        given = operators.inputs(rows, side, device, dtype)
        plain = operators.call(pack, model, None, given)
        patches = operators.style_run(pack, rows, side, 1).patches
        off = operators.call(pack, model, patches, given)
        apart_stock = halves_apart(pack, model, None, given)
        for references in (0, 1, 2):
            run = operators.style_run(pack, rows, side, references)
            stock, patched = layer_errors(pack, model, run, given)
            least = 64 * torch.finfo(torch.float32).eps
            apart = halves_apart(pack, model, run, given)
            found.append({
                "type": str(dtype).removeprefix("torch."),
                "references": references,
                "layers": len(patched),
                "stock's error": max(stock),
                "patched error": max(patched),
                "strength 0 is stock": torch.equal(plain, off),
                "stock's halves apart": apart_stock,
                "halves apart": apart,
                "passed": torch.equal(plain, off)
                and max(patched) <= ALLOWED * max(stock) + least
                and apart <= 2 * ALLOWED * apart_stock + 1e3 * least,
            })  # fmt: skip
        del model
    return found


def timed(work, device: torch.device, rounds: int) -> float:
    """Median seconds: by CUDA's events, or by the clock."""
    taken = []
    for i in range(rounds + 1):  # the first warms up
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            synchronize(device)
            seconds = start.elapsed_time(end) / 1e3
        else:
            begin = time.perf_counter()
            work()
            seconds = time.perf_counter() - begin
        taken += [seconds] if i else []
    return statistics.median(taken)


def measured(pack, device, rounds: int, name: str, model, run, given) -> dict:
    """Seconds, operations and peak memory of a step at a new noise level."""

    def step():
        if run is not None:
            run.bank.clear()
        operators.call(pack, model, run, given)

    flops = FlopCounterMode(display=False)
    with flops:
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, rounds)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return {"way": name, "seconds": seconds, "TFLOP": flops.get_total_flops() / 1e12, "peak bytes": peak}


WAYS = {"concatenated": concatenated, "masked": masked, "explicit": explicit}


def speed(pack, device: torch.device, small: bool) -> list[dict]:
    """Stock, the pack, other ways, and IP-Adapter: seconds a step, also as multiples of stock beside the same
    of operations. Nearness 1 is stock's own speed per operation.
    """
    cases = [(8, 1), (8, 2)] if small else [(128, 1), (128, 4), (192, 1), (192, 4)]
    rounds, found = (1 if small else 3), []
    model = ip_adapter.sdxl(device, torch.float32 if small else torch.float16, SMALL if small else CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        styles = ip_adapter_models(pack, model, Path(folder))
    for side, batch in cases:
        given = operators.inputs(batch, side, device, next(model.model.diffusion_model.parameters()).dtype)
        measure = partial(measured, pack, device, rounds)
        rows = [measure("stock", model, None, given)]
        for references in (0, 1, 2):
            run = operators.style_run(pack, batch, side, references)
            rows.append({**measure("pack", model, run, given), "references": references})
        one = operators.style_run(pack, batch, side, 1)
        for name, attention in WAYS.items():
            rows.append({**measure(name, with_override(model, attention), one, given), "references": 1})
        rows += [measure(name, styled, None, given) for name, styled in styles.items()]
        stock = rows[0]
        for row in rows:
            time_ratio, ratio = (row[key] / stock[key] for key in ("seconds", "TFLOP"))
            sizes = {"pixels": side * 8, "pictures": batch, "references": 0}
            found.append({**sizes, **row, "to stock": time_ratio, "nearness": ratio / time_ratio})
    return found


def ip_adapter_models(pack, model, folder: Path) -> dict:
    """With a style image in the style block, and in all blocks: an adapter of random weights."""
    structure = pack.nodes._host.sdxl.cross_attention(model, 2048, "benchmark")
    keys = pack.zsamb_core.instantstyle.blocks.adapter_keys(structure)
    path = folder / "adapter.safetensors"
    ip_adapter.adapter_file(path, [structure[layer] for layer, _ in sorted(keys.items(), key=lambda x: x[1])])
    embeds = pack.zsamb_core.instantstyle.style_embeds
    image = embeds.StyleEmbeds(
        embeds.Encoder(ip_adapter.HIDDEN, ip_adapter.FEATURES),
        torch.randn(1, ip_adapter.FEATURES),
        torch.zeros(1, 1, ip_adapter.HIDDEN),
        torch.zeros(1, ip_adapter.HIDDEN),
        (1.0,),
    )
    made = {}
    for preset in ("style", "all"):
        made[f"IP-Adapter {preset}"] = ip_adapter.with_style_images(pack, model, path, image, preset)
    return made


def demo_pictures(pack) -> torch.Tensor:
    """A set of two in the style of a drawn picture, on the demo model: (2, 128, 128, 3)."""
    import nodes

    model, clip, vae = pack.nodes.demo_model.LoadDemoModel.execute().result[:3]
    prompts = pack.nodes.prompts.PromptSet.execute(clip, "a cat\na house", "").result[0]
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    drawn = pack.nodes.demo_model.LoadDemoModel.execute().result[4]
    latent = {"samples": vae.encode(drawn)}
    invert = pack.nodes.references.DDIMInvert
    reference = invert.execute(model, latent, empty, empty, 6, 1.0, 0, "simple").result[0]
    settings = {
        "preset": "custom", "score_shift": math.log(2), "score_scale": 1.0, "share": "reference",
        "blocks": "all", "only_self_level": 0.0, "start_percent": 0.0, "end_percent": 1.0,
        "share_group_norm": False,
    }  # fmt: skip
    patch = pack.nodes.style_aligned.SharedAttention
    patched = patch.execute(model, 1.0, reference=reference, **settings).result[0]
    noise = {"samples": torch.zeros(2, 4, 16, 16)}
    ddim = (5, 6, 4.0, "ddim", "simple")
    return vae.decode(nodes.common_ksampler(patched, *ddim, prompts, empty, noise)[0]["samples"]).cpu()


def demo(pack, device: torch.device, small: bool) -> list[dict]:
    """The demo's pictures on this device against the CPU's, which a process of its own draws."""
    here = demo_pictures(pack)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pictures.pt"
        command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--draw", str(path)]
        subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[1])
        there = torch.load(path, weights_only=True)
    decibel = min(99.0, psnr(here, there))  # JSON has no infinity
    return [{"pictures": len(here), "PSNR to the CPU's, dB": decibel, "passed": decibel >= DEMO_DB}]
