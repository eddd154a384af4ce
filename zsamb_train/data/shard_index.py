"""What lies where in a shard: found by one pass over its headers, kept in a file beside it."""

import hashlib
import io
import json
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zsamb_core.files.whole_file import write_over
from zsamb_core.messages import short
from zsamb_core.texts import read_json

from .pictures import SUFFIXES, size_of
from .tar_members import BLOCK, Member, Part, members

VERSION = 1  # counted up when an index is made in another way
PICTURE, CAPTION, LATENT, EMBED = range(4)
KINDS = {s[1:]: PICTURE for s in SUFFIXES} | {
    "txt": CAPTION, "json": CAPTION, "latent.npy": LATENT, "embed.npy": EMBED
}  # fmt: skip
JSON = 1 << 20  # bytes of a sample's JSON
PIXELS = 8  # of a latent's side


@dataclass
class Index:
    """Of n samples in one tar, or in several. ``heads`` (n,): the first header of each, in blocks of 512
    bytes; ``starts``, ``bytes`` (n, 4): data of picture, caption, latent and embed, 0 bytes for none.
    ``is_json`` (n,): the caption is in JSON. ``sizes`` (n, 2): width, height; ``latents`` (n, 2): the same
    of what is cached, in pixels; ``crops`` (n, 2): top, left; ``features`` (n,): numbers in the embed.
    ``groups`` (n,) by ``names``, -1 for none. ``skipped``: "name: why".
    """

    heads: np.ndarray
    starts: np.ndarray
    bytes: np.ndarray
    is_json: np.ndarray
    sizes: np.ndarray
    latents: np.ndarray
    crops: np.ndarray
    features: np.ndarray
    groups: np.ndarray
    names: np.ndarray
    skipped: np.ndarray

    def __len__(self) -> int:
        return len(self.heads)

    def only(self, kept: np.ndarray) -> "Index":
        """The samples of a mask."""
        rows = {
            f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name not in ("names", "skipped")
        }
        return Index(**rows, names=self.names, skipped=self.skipped)


@dataclass
class _Rows:
    """An index on its way."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def index(self) -> Index:
        columns = list(zip(*self.rows, strict=True)) or [()] * 9
        types = (np.uint32, np.uint32, np.uint32, np.bool_, np.int32, np.uint16, np.int32, np.int32, np.int32)
        wide = {1: 4, 2: 4, 4: 2, 5: 2, 6: 2}
        arrays: list[np.ndarray] = [
            np.array(column, typ).reshape(len(column), *([wide[i]] if i in wide else []))
            for i, (column, typ) in enumerate(zip(columns, types, strict=True))
        ]
        arrays += [np.array([*self.groups], str), np.array(self.skipped, str)]
        return Index(*arrays)


def find_index(shard: Path, cache: Path | None = None) -> Index:
    """The index of a tar: the kept one where it fits the file, or a new one, kept beside the tar, or in the
    folder ``cache`` where nothing can be written there. Raises OSError for a tar that cannot be read.
    """
    stat = shard.stat()
    mark = json.dumps([VERSION, stat.st_size, stat.st_mtime_ns])
    places = [shard.with_name(f"{shard.name}.index.npz")]
    if cache is not None:
        path = hashlib.sha256(str(shard.resolve()).encode("utf-8", "surrogatepass")).hexdigest()
        places.append(cache / f"{path[:32]}.index.npz")
    for place in places:
        if (index := _kept(place, mark, stat.st_size)) is not None:
            return index
    index = scan(shard)
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_over(place, lambda part: _write(part, index, mark))
            break
        except OSError:  # read only, or full: the next place, or none
            continue
    return index


def _write(place: Path, index: Index, mark: str) -> None:
    with place.open("wb") as file:
        np.savez(file, mark=np.array(mark), **vars(index))


def _kept(place: Path, mark: str, total: int) -> Index | None:
    """None for one that is not there, is damaged, or is another file's."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            if str(arrays["mark"]) != mark:
                return None
            index = Index(**{f.name: arrays[f.name] for f in fields(Index)})
    except Exception:  # numpy raises whatever a damaged file leads to; the tar itself is read then
        return None
    ends = index.starts.astype(np.int64) * BLOCK + index.bytes
    n = len(index.heads)
    same = all(len(getattr(index, f.name)) == n for f in fields(Index) if f.name not in ("names", "skipped"))
    return index if same and index.starts.shape == (n, 4) and (ends <= total).all() else None


def scan(shard: Path) -> Index:
    """One pass over a tar's headers, and over the beginnings of its pictures and arrays. Nothing is
    extracted. A sample is a row of members whose names are alike up to the first dot.
    """
    out, damage = _Rows(), list[str]()
    with shard.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        key, parts = "", dict[str, Member]()
        for member in members(file, total, damage):
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            stem, _, kind = name.partition(".")
            kind = kind.lower()
            if parts and (f"{folder}/{stem}" != key or kind in parts):
                _add(out, file, f"{shard.name}/{key.lstrip('/')}", parts)
                parts = {}
            key = f"{folder}/{stem}"
            if kind in KINDS and member.start // BLOCK < 2**32 and member.size < 2**32:
                parts[kind] = member
        if parts:
            _add(out, file, f"{shard.name}/{key.lstrip('/')}", parts)
    out.skipped += [f"{shard.name}: {what}" for what in damage]
    return out.index()


def _add(out: _Rows, file: BinaryIO, name: str, parts: dict[str, Member]) -> None:
    """A sample of ``parts`` by kind, or why it is none."""
    try:
        out.rows.append(_row(file, parts, out.groups))
    except ValueError as error:
        out.skipped.append(f"{name}: {error}")


def _row(file: BinaryIO, parts: dict[str, Member], groups: dict[str, int]) -> tuple[Any, ...]:
    said = _json(file, parts["json"]) if "json" in parts else {}
    kept = {KINDS[kind]: kind for kind in parts if kind != "json"}
    if "json" in parts and CAPTION not in kept:
        kept[CAPTION] = "json"
    if PICTURE not in kept and LATENT not in kept:
        raise ValueError("neither a picture nor a latent")
    size, latent, features = (0, 0), (0, 0), 0
    if LATENT in kept:
        shape = array_shape(file, parts[kept[LATENT]])
        if len(shape) != 3 or shape[0] != 4 or not 0 < max(shape) * PIXELS < 2**16 or 0 in shape:
            raise ValueError(f"a latent of shape {shape}, expected (4, height, width)")
        size = latent = shape[2] * PIXELS, shape[1] * PIXELS
    if EMBED in kept:
        shape = array_shape(file, parts[kept[EMBED]])
        if len(shape) != 1 or shape[0] < 1:
            raise ValueError(f"an embed of shape {shape}, expected (features,)")
        features = shape[0]
    if PICTURE in kept:
        at = parts[kept[PICTURE]]
        size = size_of(io.BufferedReader(Part(file, at.start, at.size)))
    if LATENT in kept and _whole(said.get("width"), 1) and _whole(said.get("height"), 1):
        size = said["width"], said["height"]  # the original's, which a picture beside a cache need not be
    crop = said.get("crop", (0, 0))
    if not isinstance(crop, list | tuple) or len(crop) != 2 or not all(_whole(n, 0) for n in crop):
        raise ValueError(f"in its JSON crop is {short(crop)}, expected [top, left]")
    group = said.get("group", said.get("style"))
    number = -1 if group is None else groups.setdefault(short(group), len(groups))
    used = [parts.get(kept.get(kind, "")) for kind in range(4)]
    return (
        min(member.head for member in parts.values()) // BLOCK,
        [member.start // BLOCK if member else 0 for member in used],
        [member.size if member else 0 for member in used],
        kept.get(CAPTION) == "json", size, latent, crop, features, number,
    )  # fmt: skip


def _whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 2**31


def _json(file: BinaryIO, member: Member) -> dict[str, Any]:
    if member.size > JSON:
        raise ValueError(f"its JSON has {member.size} bytes, expected {JSON} at most")
    file.seek(member.start)
    return read_fields(file.read(member.size))


def read_fields(data: bytes) -> dict[str, Any]:
    """An object as JSON. Raises ValueError for anything else."""
    try:
        said = read_json(data)
    except ValueError as error:
        raise ValueError(f"its JSON cannot be read ({short(str(error))})") from error
    if not isinstance(said, dict):
        raise ValueError(f"its JSON is a {type(said).__name__}, expected an object")
    return said


def array_shape(file: BinaryIO, member: Member) -> tuple[int, ...]:
    """Of an .npy of half or single precision, from its first bytes. Raises ValueError for another one, and
    where its size is not what its header says.
    """
    file.seek(member.start)
    head = io.BytesIO(file.read(min(member.size, 1024)))
    try:
        version = np.lib.format.read_magic(head)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, turned, dtype = read(head)
    except ValueError as error:
        raise ValueError(f"an array that cannot be read ({short(str(error))})") from error
    if dtype not in (np.float16, np.float32) or turned:
        raise ValueError(f"an array of {dtype}, expected float16 or float32 in C order")
    if head.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) != member.size:
        raise ValueError(f"an array of shape {shape} in {member.size} bytes: it is cut off")
    return tuple(map(int, shape))
