"""Pictures a second out of a folder and out of shards of the same 10,000 small pictures, in turns.

Both are read in the loader's random order: in this process, by its own CPU time, and through two workers, by
the clock. Nothing is trained. The ratio says more than the figures, which are of this machine and of whatever
else runs on it.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from zsamb_train.data.loader import loader
from zsamb_train.data.sample import Source
from zsamb_train.data.shard_writer import ShardWriter, array_bytes
from zsamb_train.data.source import open_source

PICTURES, SIDE, BATCH = 10_000, 64, 50


def write(root: Path, count: int) -> None:
    """The same pictures as files with captions, and as shards; and caches of as many, for 512 px."""
    rng = np.random.default_rng(0)
    latent, embed = array_bytes(rng.standard_normal((4, 64, 64))), array_bytes(rng.standard_normal(1280))
    (root / "folder").mkdir()
    with ShardWriter(root / "shards", 1000) as shards, ShardWriter(root / "caches", 1000) as caches:
        for i in range(count):
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(out, "JPEG")
            caption = f"picture {i}".encode()
            (root / "folder" / f"{i:05}.jpg").write_bytes(out.getvalue())
            (root / "folder" / f"{i:05}.txt").write_bytes(caption)
            shards.add(f"{i:05}", {"jpg": out.getvalue(), "txt": caption})
            caches.add(f"{i:05}", {"txt": caption, "latent.npy": latent, "embed.npy": embed})


def rate(source: Source, workers: int, batches: int, first: int) -> float:
    """Pictures a second, without the workers' start; of CPU time where there are none."""
    rows = iter(loader(source, BATCH, SIDE, "self", 0, first=first, workers=workers, tell=lambda _: None))
    for _ in range(max(1, 2 * workers)):
        next(rows)
    clock = time.perf_counter if workers else time.process_time
    start = clock()
    for _ in range(batches):
        next(rows)
    return BATCH * batches / (clock() - start)


def timed(what: Callable[[], Source]) -> tuple[Source, float]:
    start = time.perf_counter()
    return what(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, args.pictures)
        sources = {}
        for name in ("folder", "shards", "caches"):
            sources[name], first = timed(lambda name=name: open_source(root / name))
            _, again = timed(lambda name=name: open_source(root / name))
            print(f"{name}: {args.pictures} opened in {first:.1f} s, again in {again:.2f} s")
        for workers in (0, 2):
            rates: dict[str, list[float]] = {name: [] for name in sources}
            for turn in range(args.turns):
                for name in sources:
                    rates[name].append(rate(sources[name], workers, args.batches, turn * args.batches))
            medians = {name: statistics.median(row) for name, row in rates.items()}
            shown = ", ".join(f"{name} {median:,.0f}" for name, median in medians.items())
            ratio = statistics.median(a / b for a, b in zip(rates["shards"], rates["folder"], strict=True))
            unit = "pictures a second" if workers else "pictures a CPU second"
            print(f"{workers} workers, {unit}: {shown}; shards to folder {ratio:.2f}")


if __name__ == "__main__":
    main()
