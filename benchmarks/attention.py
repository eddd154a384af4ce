"""Shared attention against other ways to compute it, side by side in one run: ``nox -s benchmarks``.

At SDXL's two attention shapes for a 1024 px picture (4096 tokens of 10 heads, 1024 tokens of 20 heads, 64
channels a head), four pictures, one and three references, score shift 0 and ln 2. The stand-ins are written
here from the paper's equation 3:

- concatenated: one fused kernel over own and references' keys, the way of most ports; a shift needs a mask;
- masked: the same with an additive mask always, which is what a shift costs there;
- explicit: the logit matrix, softmax, and a product, the way of the published code for a shift.

A round is one call of each; times are the median of the rounds, and ratios are to the merge. Memory is what
a layer holds at its peak beyond its inputs and its output, in multiples of that output, each way in a
process of its own.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from zsamb_core.style_aligned.attention import Part, shared_attention, split_heads

SHAPES = ((4096, 10), (1024, 20))
SETTINGS = [(refs, shift) for refs in (1, 3) for shift in (0.0, math.log(2))]


def merge(q, k, v, refs, heads, shift):
    """What the pack does."""
    return shared_attention(q[None], k[None], v[None], [[Part(*ref, shift) for ref in refs]], heads)[0]


def concatenated(q, k, v, refs, heads, shift, masked=False):
    rows, tokens = q.shape[:2]
    k_all, v_all = (
        torch.cat([x, *(ref[i].expand(rows, -1, -1) for ref in refs)], 1) for i, x in enumerate((k, v))
    )
    mask = None
    if shift or masked:
        mask = q.new_zeros(tokens, k_all.shape[1])
        mask[:, tokens:] = shift
    q, k, v = (split_heads(x, heads) for x in (q, k_all, v_all))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def always_masked(q, k, v, refs, heads, shift):
    return concatenated(q, k, v, refs, heads, shift, masked=True)


def explicit(q, k, v, refs, heads, shift):
    """Picture by picture: all four at once would hold 21 GB of logits with three references."""
    tokens, out = q.shape[1], []
    for i in range(len(q)):
        q_i, k_i, v_i = (
            split_heads(x[None], heads)
            for x in (
                q[i],
                torch.cat([k[i], *(r[0] for r in refs)]),
                torch.cat([v[i], *(r[1] for r in refs)]),
            )
        )
        logits = q_i @ k_i.transpose(-1, -2) * q_i.shape[-1] ** -0.5
        logits[..., tokens:] += shift
        out.append((torch.softmax(logits, -1) @ v_i).transpose(1, 2).flatten(2))
    return torch.cat(out)


WAYS = {"merge": merge, "concatenated": concatenated, "masked": always_masked, "explicit": explicit}


def inputs(tokens: int, heads: int, pictures: int, refs: int, device: str):
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float16 if device == "cuda" else torch.float32

    def rows(*shape):
        return torch.randn(*shape, tokens, heads * 64, generator=generator).to(device, dtype)

    return rows(pictures), rows(pictures), rows(pictures), [(rows(), rows()) for _ in range(refs)]


def seconds(way, *args, device: str) -> float:
    start = time.perf_counter()
    way(*args)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def extra_memory(
    name: str, tokens: int, heads: int, pictures: int, refs: int, shift: float, device: str
) -> float:
    """Peak beyond inputs and output, in outputs. Run in a process of its own: a CPU's peak never falls."""
    q, k, v, references = inputs(tokens, heads, pictures, refs, device)
    small = inputs(64, heads, 1, refs, device)
    WAYS[name](*small[:3], small[3], heads, shift)  # libraries load and allocate on first use
    size = q.numel() * q.element_size()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        WAYS[name](q, k, v, references, heads, shift)
        return (torch.cuda.max_memory_allocated() - before) / size - 1
    # Pages that were used and freed before would hide as many; the kernel counts the peak from here on.
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("VmRSS")
    out = WAYS[name](q, k, v, references, heads, shift)
    return (_kilobytes("VmHWM") - before) * 1024 / size - out.numel() / q.numel()


def _kilobytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0])


def measured_apart(*args) -> float | None:
    """`extra_memory` in a new process; None where this system cannot say."""
    if args[-1] == "cpu" and not Path("/proc/self/clear_refs").exists():
        return None
    code = f"from benchmarks.attention import extra_memory; print(extra_memory(*{json.dumps(args)}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{device}, {torch.get_num_threads()} threads, {options.pictures} pictures, {options.rounds} rounds"
    )
    print(f"{'tokens':>6} {'refs':>4} {'shift':>5}  {'way':14}{'seconds':>9}{'to merge':>10}{'memory':>9}")
    for tokens, heads in SHAPES:
        for refs, shift in SETTINGS:
            tensors = inputs(tokens, heads, options.pictures, refs, device)
            times: dict[str, list[float]] = {name: [] for name in WAYS}
            for i in range(options.rounds + 1):  # the first round warms up
                for name, way in WAYS.items():
                    taken = seconds(way, *tensors[:3], tensors[3], heads, shift, device=device)
                    times[name] += [taken] if i else []
            for name, taken in times.items():
                ratio = statistics.median(t / m for t, m in zip(taken, times["merge"], strict=True))
                memory = measured_apart(name, tokens, heads, options.pictures, refs, shift, device)
                print(
                    f"{tokens:6} {refs:4} {shift:5.2f}  {name:14}{statistics.median(taken):9.3f}{ratio:10.2f}"
                    f"{'-' if memory is None else f'{memory:.2f}':>9}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
