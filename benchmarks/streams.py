"""Which order of training pictures resumes exactly: the streams of Hugging Face datasets, or numbers.

A stream of webdataset shards is read for a while, its state is kept as JSON, and a new stream goes on from
it; the same with `zsamb_train.data.order`. Needs ``pip install .[train]``.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from zsamb_train.data.order import Batches
from zsamb_train.data.shard_writer import ShardWriter

PICTURES, SHARD, BUFFER, READ = 1000, 100, 200, 500


def stream(shards: list[str], buffer: int):
    import datasets

    found = datasets.load_dataset(
        "webdataset", data_files=shards, streaming=True, split="train", cache_dir=tempfile.gettempdir()
    )
    return found.shuffle(seed=1, buffer_size=buffer) if buffer else found


def resumed(shards: list[str], buffer: int) -> tuple[list[str], list[str], list[str]]:
    """(what was read before, what the same stream reads next, what a new one reads from its state)."""
    first = stream(shards, buffer)
    rows = iter(first)
    before = [next(rows)["__key__"] for _ in range(READ)]
    state = json.dumps(first.state_dict())
    rest = [row["__key__"] for row in rows]
    second = stream(shards, buffer)
    second.load_state_dict(json.loads(state))
    return before, rest, [row["__key__"] for row in second]


def row(name: str, before: list[str], rest: list[str], again: list[str]) -> str:
    seen = set(before) | set(again)
    twice = len(before) + len(again) - len(seen)
    return (
        f"{name:44}{'yes' if rest == again else 'no':>8}{PICTURES - len(seen):>12}{twice:>12}"
        f"{np.mean([a == b for a, b in zip(rest, again, strict=False)]):>12.3f}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), SHARD) as writer:
            for i in range(PICTURES):
                writer.add(f"{i:05}", {"txt": f"picture {i}".encode()})
        shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
        print(f"{PICTURES} samples in {len(shards)} shards, stopped after {READ}")
        print(f"{'':44}{'exact':>8}{'never seen':>12}{'seen twice':>12}{'same place':>12}")
        for buffer in (0, BUFFER):
            name = (
                f"datasets, shuffle buffer of {buffer}" if buffer else "datasets, in the order of the shards"
            )
            print(row(name, *resumed(shards, buffer)))
    whole = [f"{i}" for b in range(PICTURES // 10) for i in Batches(np.zeros(PICTURES, int), 10, 1)[b]]
    new = Batches(np.zeros(PICTURES, int), 10, 1)  # knows the number of the next batch, and nothing else
    again = [f"{i}" for b in range(READ // 10, PICTURES // 10) for i in new[b]]
    print(row("by number", whole[:READ], whole[READ:], again))


if __name__ == "__main__":
    main()
