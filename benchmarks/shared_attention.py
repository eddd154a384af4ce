"""Shared attention three ways, side by side in one run: ``nox -s benchmarks``.

At SDXL's two attention sizes for a 1024 px picture (4096 tokens of 10 heads, 1024 tokens of 20 heads, 64
channels a head): the log-sum-exp merge that the pack uses, one kernel over concatenated keys, and the
explicit softmax over a materialised logit matrix that the published transfer code needs for its score
shift. Times are ratios to plain self-attention of the same rows in the same round, medians over rounds.
"""

import argparse
import math
import statistics
import time

import torch

from zsamb_core.attention import _concatenated, shared_attention, split_heads


def plain(q, k, v, heads):
    q, k, v = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def concatenated(q, k, v, k_ref, v_ref, heads, shift):
    q, k, v = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    return _concatenated(q, k, v, k_ref, v_ref, heads, q.shape[-1] ** -0.5, shift, 1.0)


def explicit(q, k, v, k_ref, v_ref, heads, shift):
    rows = q.shape[1]
    q, k, v = (split_heads(x.flatten(0, 1), heads) for x in (q, k, v))
    k_ref, v_ref = (split_heads(x, heads).repeat_interleave(rows, 0) for x in (k_ref, v_ref))
    logits = q @ torch.cat([k, k_ref], 2).transpose(-1, -2) * q.shape[-1] ** -0.5
    logits[..., k.shape[2] :] += shift
    return torch.softmax(logits, -1) @ torch.cat([v, v_ref], 2)


def compare(tokens: int, heads: int, targets: int, rounds: int, device: str, dtype: torch.dtype) -> None:
    shift = math.log(2)
    q, k, v = (torch.randn(1, targets, tokens, heads * 64, device=device, dtype=dtype) for _ in range(3))
    k_ref, v_ref = (torch.randn(1, tokens, heads * 64, device=device, dtype=dtype) for _ in range(2))
    ways = {
        "plain self-attention": lambda: plain(q, k, v, heads),
        "log-sum-exp merge": lambda: shared_attention(q, k, v, k_ref, v_ref, heads, shift),
        "concatenated keys": lambda: concatenated(q, k, v, k_ref, v_ref, heads, shift),
        "explicit softmax": lambda: explicit(q, k, v, k_ref, v_ref, heads, shift),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first round warms up
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    base = times["plain self-attention"][1:]
    for name, taken in times.items():
        ratio = statistics.median(t / b for t, b in zip(taken[1:], base, strict=True))
        print(f"{tokens} tokens  {name:22} {ratio:5.2f} x plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float16 if device == "cuda" else torch.float32
    print(f"{device}, {dtype}, {options.targets} targets, one reference, medians of {options.rounds} rounds")
    for tokens, heads in ((4096, 10), (1024, 20)):
        compare(tokens, heads, options.targets, options.rounds, device, dtype)


if __name__ == "__main__":
    main()
