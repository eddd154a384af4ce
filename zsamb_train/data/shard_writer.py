"""Write shards that are there whole or not at all, and go on where a run was stopped."""

import hashlib
import io
import re
import tarfile
from pathlib import Path
from types import TracebackType

import numpy as np

from zsamb_core.files.whole_file import write_new

from .tar_members import members


class ShardWriter:
    """Tars ``NAME-000000.tar`` and so on in ``folder``, of ``per_shard`` samples each; the last one, which
    may have fewer, is written when a ``with`` ends without an error. What a stopped run had not yet written
    is no part of any tar. ``name``: another for each process that writes into the folder.
    """

    def __init__(self, folder: Path, per_shard: int = 1000, name: str = "shard") -> None:
        if per_shard < 1:
            raise ValueError(f"{per_shard} samples a shard: expected at least 1")
        self.folder, self.per_shard, self.name = folder, per_shard, name
        folder.mkdir(parents=True, exist_ok=True)
        self.waiting: dict[str, dict[str, bytes]] = {}
        pattern = re.compile(re.escape(name) + r"-(\d{6})\.tar")
        taken = [int(found[1]) for p in folder.iterdir() if (found := pattern.fullmatch(p.name))]
        self.next = max(taken, default=-1) + 1
        keys = (_hash(key) for path in sorted(folder.glob("*.tar")) for key in _keys(path))
        self.known = np.unique(np.fromiter(keys, np.uint64))  # 8 bytes each, for millions of them
        self.new: set[int] = set()

    def done(self, key: str) -> bool:
        """Whether a sample is in a tar already, of this run or an earlier one, or waits for its tar."""
        mark = _hash(key)
        place = int(np.searchsorted(self.known, np.uint64(mark)))
        return mark in self.new or bool(place < len(self.known) and self.known[place] == np.uint64(mark))

    def add(self, key: str, fields: dict[str, bytes]) -> None:
        """A sample: ``fields`` by what comes behind the dot, such as "jpg", "txt" or "latent.npy". Raises
        ValueError for a key that cannot be one, or is done.
        """
        if not key or not re.fullmatch(r"[^./\\\x00-\x1f]+", key):
            raise ValueError(f"the key {key!r} cannot name a sample: expected letters without dot and slash")
        if self.done(key):
            raise ValueError(f"the key {key!r} is in a shard already")
        self.new.add(_hash(key))
        self.waiting[key] = fields
        if len(self.waiting) >= self.per_shard:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a tar. Raises OSError; what waits stays so."""
        if self.waiting:
            places = (self.folder / f"{self.name}-{i:06}.tar" for i in range(self.next, 1_000_000))
            place = write_new(places, self._write)
            self.next = int(place.stem.rpartition("-")[2]) + 1
            self.waiting = {}

    def _write(self, place: Path) -> None:
        with tarfile.open(place, "w", format=tarfile.PAX_FORMAT) as tar:
            for key, parts in self.waiting.items():
                for kind, data in parts.items():
                    info = tarfile.TarInfo(f"{key}.{kind}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()


def array_bytes(array: np.ndarray) -> bytes:
    """An .npy of half precision."""
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array, np.float16), allow_pickle=False)
    return out.getvalue()


def _keys(path: Path) -> set[str]:
    with path.open("rb") as file:
        found = members(file, path.stat().st_size, [])
        return {member.name.rpartition("/")[2].partition(".")[0] for member in found}


def _hash(key: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
