"""Sets in webdataset's tars: ``key.jpg``, ``key.txt`` or ``.json``, and caches ``key.latent.npy`` and
``key.embed.npy``. Read by index, each part where it lies.

A sample takes some 60 bytes of memory, in a few arrays that workers share, so four million take 250 MB.
"""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from zsamb_core.texts import decode

from .pictures import read_rgb
from .sample import Sample
from .shard_index import CAPTION, EMBED, LATENT, PICTURE, Index, find_index, read_fields
from .tar_members import BLOCK, members

OPEN = 32  # tars that a process holds open


class OpenFiles:
    """Files that are read at places in turn; each process has its own, since a shared one has one place."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths, self.process = paths, os.getpid()
        self.files: OrderedDict[int, BinaryIO] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "process": 0, "files": OrderedDict()}

    def __getitem__(self, i: int) -> BinaryIO:
        if self.process != os.getpid():
            self.files, self.process = OrderedDict(), os.getpid()
        if i not in self.files:
            self.files[i] = self.paths[i].open("rb")
            if len(self.files) > OPEN:
                self.files.popitem(last=False)[1].close()
        self.files.move_to_end(i)
        return self.files[i]


class Shards:
    """A `Source` of tars."""

    def __init__(
        self, paths: list[Path], cache: Path | None = None, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """``cache``: a folder for the indexes where none can be written beside the tars. ``progress`` is
        called with how many tars are known, and of how many. Raises ValueError where no sample is left.
        """
        self.skipped: list[str] = []
        self.notes: list[str] = []
        indexes, names = [], dict[str, int]()
        for done, path in enumerate(paths):
            if progress is not None:
                progress(done, len(paths))
            indexes.append(self._index(path, cache, names))
        if progress is not None:
            progress(len(paths), len(paths))
        self.digest = _digest(paths, indexes)
        self.ends = np.cumsum([len(index) for index in indexes])
        self.group_names = [*names]
        self.all = _joined(indexes)
        self._choose(paths)
        self.files = OpenFiles(paths)
        self.sizes, self.groups = self.all.sizes, self.all.groups

    def _index(self, path: Path, cache: Path | None, names: dict[str, int]) -> Index:
        try:
            index = find_index(path, cache)
        except OSError as error:
            self.skipped.append(f"{path.name}: cannot be read ({error.strerror or error})")
            return _joined([])
        self.skipped += map(str, index.skipped)
        numbers = [names.setdefault(str(name), len(names)) for name in index.names]
        index.groups = np.array([*numbers, -1], np.int32)[index.groups]
        return index

    def _choose(self, paths: list[Path]) -> None:
        """Take what all samples have: caches, or else pictures."""
        has = self.all.bytes > 0
        full = has[:, LATENT] & has[:, EMBED]
        self.cached = bool(len(full)) and bool(full.all())
        if not self.cached and not (kept := has[:, PICTURE]).all():
            why = "no picture, and others of the set have no caches"
            if not kept.any():
                why = "a latent without embed" if has[:, LATENT].any() else "no picture"
            self.shard_of = np.searchsorted(self.ends, np.arange(len(kept)), side="right")
            files = OpenFiles(paths)
            self.skipped += [f"{self._name(files, paths, int(i))}: {why}" for i in np.flatnonzero(~kept)]
            before = np.concatenate([[0], np.cumsum(kept)])
            self.ends, self.all = before[self.ends], self.all.only(kept)
        if not len(self.all):
            raise ValueError(
                f"{paths[0].parent}: none of its {len(paths)} tars has a sample that can be used. The first"
                f" reason: {self.skipped[0] if self.skipped else 'they are empty'}. Expected members"
                " key.jpg and key.txt, or key.latent.npy and key.embed.npy."
            )
        self.pictured = bool((self.all.bytes[:, PICTURE] > 0).all())
        self.latent_sizes = self.all.latents.astype(np.int32) if self.cached else None
        if not self.cached and (some := int(full.sum())):
            self.notes.append(f"{some} samples have latents and embeds, and others none: caches are not used")
        if self.cached and len(widths := np.unique(self.all.features)) > 1:
            raise ValueError(
                f"{paths[0].parent}: the cached embeds have {' and '.join(map(str, widths))} features,"
                " expected those of one encoder. Prepare the set again."
            )
        if empty := int((self.all.bytes[:, CAPTION] == 0).sum()):
            self.notes.append(f"{empty} of {len(self.all)} samples have no caption: theirs is empty")

    def __len__(self) -> int:
        return len(self.all)

    def read(self, i: int, *, picture: bool = True, latent: bool = True) -> Sample:
        shard = int(np.searchsorted(self.ends, i, side="right"))
        name = self._name(self.files, self.files.paths, i)
        try:
            shown = picture and self.pictured
            width, height = map(int, self.all.sizes[i])
            top, left = map(int, self.all.crops[i])
            return Sample(
                name,
                self._caption(shard, i),
                read_rgb(io.BytesIO(self._bytes(shard, i, PICTURE))) if shown else None,
                self._array(shard, i, LATENT) if self.cached and latent else None,
                self._array(shard, i, EMBED) if self.cached else None,
                (width, height),
                (top, left) if self.cached else (0, 0),
            )
        except (OSError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error

    def _name(self, files: OpenFiles, paths: Sequence[Path], i: int) -> str:
        """Read where it is needed: names are most of what a tar's index would hold."""
        shard = int(np.searchsorted(self.ends, i, side="right"))
        place = int(self.all.heads[i]) * BLOCK
        try:
            file = files[shard]
            member = next(members(file, os.fstat(file.fileno()).st_size, [], place), None)
        except OSError:
            member = None
        folder, slash, name = (member.name.removeprefix("./") if member else f"byte {place}").rpartition("/")
        return f"{paths[shard].name}/{folder}{slash}{name.partition('.')[0]}"

    def _bytes(self, shard: int, i: int, kind: int) -> bytes:
        file, size = self.files[shard], int(self.all.bytes[i, kind])
        file.seek(int(self.all.starts[i, kind]) * BLOCK)
        data = file.read(size)
        if len(data) != size:
            raise ValueError("the tar became shorter. Start again, so that it is read anew")
        return data

    def _caption(self, shard: int, i: int) -> str:
        data = self._bytes(shard, i, CAPTION)
        if not self.all.is_json[i]:
            return decode(data).strip()
        return caption_of(read_fields(data))

    def _array(self, shard: int, i: int, kind: int) -> torch.Tensor:
        array = np.load(io.BytesIO(self._bytes(shard, i, kind)), allow_pickle=False)
        if not np.isfinite(array.sum(dtype=np.float64)):  # quicker than to look at each half-precision value
            raise ValueError(f"its {'latent' if kind == LATENT else 'embed'} has values that are not numbers")
        return torch.from_numpy(array)


def caption_of(said: dict[str, Any]) -> str:
    """The text or caption of a sample's fields, empty where there is none. Raises ValueError."""
    text = said.get("text", said.get("caption"))
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ValueError(f"its caption is a {type(text).__name__}, expected a text")
    return text.strip()


def _joined(indexes: list[Index]) -> Index:
    parts: dict[str, np.ndarray] = {}
    for f in fields(Index):
        arrays = [getattr(index, f.name) for index in indexes if len(index)]
        parts[f.name] = (
            np.concatenate(arrays) if arrays and f.name not in ("names", "skipped") else np.array([])
        )
    if not len(parts["heads"]):
        parts |= {"bytes": np.zeros((0, 4), np.uint32), "groups": np.zeros(0, np.int32)}
    return Index(**parts)


def _digest(paths: list[Path], indexes: list[Index]) -> str:
    """Of the tars' names and what lies where in them."""
    total = hashlib.sha256()
    for path, index in zip(paths, indexes, strict=True):
        total.update(path.name.encode("utf-8", "surrogatepass") + b"\0")
        for array in (index.heads, index.starts, index.bytes, index.sizes, index.groups):
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
