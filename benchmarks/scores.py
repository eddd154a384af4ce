"""Scoring a set, each picture embedded once, against a loop over its pairs: ``python -m benchmarks.scores``.

With the demo DINO, on noise of 512 px. The loop embeds both pictures of every pair anew, as evaluations that
compare two files at a time do; it is measured on some pairs and scaled to all of them. Both prepare pictures
the same way. Memory is what scoring alone, without the model, holds at its peak beyond its embeddings, in a
process of its own, as `benchmarks.attention` measures it.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zsamb_core.scores.judge import PUBLISHED, embed_all
from zsamb_core.scores.measures import set_consistency

from .attention import _kilobytes

COUNTS = (16, 64, 256)
CHANNELS = 128  # of the demo DINO


def once(judge, pictures: list[Image.Image]) -> float:
    return set_consistency(torch.cat(list(embed_all(judge, pictures))))


def pair_by_pair(judge, pictures: list[Image.Image], pairs: list[tuple[int, int]]) -> float:
    total = 0.0
    for i, j in pairs:
        a, b = (judge.embed(judge.prepared([pictures[k]], PUBLISHED))[0] for k in (i, j))
        total += float(torch.cosine_similarity(a.double(), b.double(), dim=0))
    return total / len(pairs)


def seconds(work, *args) -> tuple[float, float]:
    """How long it took, and what it gave."""
    start = time.perf_counter()
    result = work(*args)
    return time.perf_counter() - start, result


def extra_memory(n: int) -> int:
    """Kilobytes at the peak of `set_consistency`, beyond the embeddings. In a process of its own: a peak
    never falls.
    """
    embeds = torch.randn(n, CHANNELS, generator=torch.Generator().manual_seed(0))
    set_consistency(embeds[:8])  # libraries load and allocate on first use
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("VmRSS")
    set_consistency(embeds)
    return _kilobytes("VmHWM") - before


def measured_apart(n: int) -> str:
    if not Path("/proc/self/clear_refs").exists():
        return "-"  # this system cannot say
    code = f"from benchmarks.scores import extra_memory; print(extra_memory({n}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return f"{int(done.stdout)} kB"


def main() -> None:
    from demo.judges import demo_judge

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100, help="to measure the loop on")
    options = parser.parse_args()
    judge, rng = demo_judge("dino"), np.random.default_rng(0)
    noise = rng.integers(0, 256, (max(COUNTS), 512, 512, 3), np.uint8)
    pictures = [Image.fromarray(p) for p in noise]
    once(judge, pictures[:16])  # warms up
    print(f"{torch.get_num_threads()} threads; the loop is measured on {options.pairs} pairs and scaled")
    print(
        f"{'pictures':>8}{'pairs':>8}{'once, s':>10}{'pictures/s':>12}{'loop, s':>10}{'faster':>9}  scoring"
    )
    for n in COUNTS:
        pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
        taken, _ = seconds(once, judge, pictures[:n])
        some = [pairs[k] for k in rng.permutation(len(pairs))[: options.pairs]]
        loop = seconds(pair_by_pair, judge, pictures, some)[0] * len(pairs) / len(some)
        print(
            f"{n:8}{len(pairs):8}{taken:10.2f}{n / taken:12.1f}{loop:10.1f}{loop / taken:8.0f}x "
            f" {measured_apart(n)}",
            flush=True,
        )
    few = pictures[:5]
    both = once(judge, few), pair_by_pair(judge, few, [(i, j) for i in range(5) for j in range(i + 1, 5)])
    assert abs(both[0] - both[1]) < 1e-6, both
    big = 100_000
    print(
        f"{big} embeddings alone: {measured_apart(big)}; their cosine matrix would be"
        f" {8 * big**2 // 2**30} GB"
    )


if __name__ == "__main__":
    main()
