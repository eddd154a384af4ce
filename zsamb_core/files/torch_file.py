"""Files that torch.save wrote, read by torch's restricted unpickler once it is known what they ask for.

The newer format is a zip of one pickle and a file per piece of data; the older one five pickles, and the data
behind them. Neither is compressed. Nothing in them is run.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..messages import short
from .pickle_calls import Damaged, Described, Foreign, Oversized
from .pickle_scan import Scanned, scan

PICKLE = 16 << 20  # bytes of a pickle; that of a UNet's 1,700 tensors has 0.3 MB
ENTRIES = 100_000  # files in a zip
NAMES = 100_000
DEPTH = 4  # of dicts within dicts that tensors are looked for in
LEGACY = 0x1950A86A20F9469CFC6C  # the number that files of the older format begin with
END, END_64 = struct.Struct("<4s4H2LH"), 20  # of a zip's directory, and where the larger sizes stand


class Unreadable(ValueError):
    """``why``: what is wrong with the file, and what to do."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{path.name} cannot be loaded: {why}")
        self.why = why


def described(path: Path) -> Any:
    """The object that the file holds, with `pickle_calls.Described` in place of tensors. Raises Unreadable
    where the file is damaged, holds something else than tensors, numbers and texts, or asks
    for more memory than it has bytes.
    """
    with reading(path), path.open("rb") as file:
        content = _zipped(file) if _is_zip(file) else _legacy(file)
        _refuse_sharing(content)
        return content.tree


def load(path: Path, mapped: bool = False) -> Any:
    """The object itself, its tensors on the CPU. ``mapped``: the data stays in the file until it is used,
    where the format allows that. Raises Unreadable as `described` does.
    """
    described(path)
    with reading(path):
        with path.open("rb") as file:
            mapped = mapped and _is_zip(file)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is raised within becomes an Unreadable."""
    try:
        yield
    except Exception as error:  # damaged files fail in many ways
        message = str(error).lower()
        foreign = isinstance(error, Foreign) or (
            isinstance(error, pickle.UnpicklingError)
            and ("unsupported global" in message or "unsupported class" in message)
        )
        if foreign:
            what = f" ({short(error)})" if isinstance(error, Foreign) else ""
            why = (
                f"it holds code or objects besides tensors, and nothing in it was run{what}. Use a"
                " safetensors file."
            )
        elif isinstance(error, Oversized):
            why = f"{short(error)}, which no file that holds a model asks for. Get it again from its source."
        else:
            what = short(error) if isinstance(error, Damaged) else type(error).__name__
            why = f"it is cut short or damaged ({what}). Get it again from its source."
        raise Unreadable(path, why) from error


def _is_zip(file: BinaryIO) -> bool:
    """As torch.load tells."""
    file.seek(0)
    return file.read(4) == b"PK\x03\x04"


def _zipped(file: BinaryIO) -> Scanned:
    size = _refuse_other_directories(file)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if not 0 < len(entries) <= ENTRIES:
            raise Oversized(f"it is a zip of {len(entries):,} files")
        # Names are told apart as PyTorch does, by any case.
        known = {entry.filename.lower(): entry for entry in entries}
        if len(known) != len(entries) or any(e.filename != e.orig_filename for e in entries):
            raise Damaged("two files of one name")
        if sum(entry.compress_size for entry in entries) > size:
            raise Oversized("one part of it is said to be many")
        root = entries[0].filename.split("/")[0].lower()
        small = [e for name, e in known.items() if not name.startswith(f"{root}/data/")]
        if sum(entry.file_size for entry in small) > PICKLE:
            raise Oversized(f"it has more than {PICKLE >> 20} MB beside the tensors")
        for entry in set(known.values()) - set(small):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise Damaged("compressed")
        with archive.open(known[f"{root}/data.pkl"]) as stream:
            content = scan(io.BytesIO(stream.read(PICKLE)))
    for key, storage in content.storages.items():
        if known[f"{root}/data/{key}".lower()].file_size < storage.size:
            raise Oversized("a tensor is larger than its data")
    return content


def _refuse_other_directories(file: BinaryIO) -> int:
    """The file's size. Python and PyTorch look for a zip's list of files in different ways; they find the
    same one where it stands as every writer puts it: at the end, and nothing behind it.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END.size))
    signature, *_, length, start, comment = END.unpack(file.read(END.size))
    end = size - END.size
    file.seek(max(0, end - END_64))
    locator = file.read(END_64)
    if locator[:4] == b"PK\x06\x07":
        (place,) = struct.unpack("<Q", locator[8:16])
        if place != end - END_64 - 56:
            raise Damaged("two lists of files")
        file.seek(place)
        record = file.read(56)
        if record[:4] != b"PK\x06\x06":
            raise Damaged("two lists of files")
        length, start = struct.unpack("<2Q", record[40:])
        end = place
    if signature != b"PK\x05\x06" or comment or start + length != end:
        raise Damaged("no list of files at its end")
    if length > PICKLE:
        raise Oversized("it is a zip of too many files")
    return size


def _legacy(file: BinaryIO) -> Scanned:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    stream = io.BytesIO(file.read(PICKLE))
    if scan(stream).tree != LEGACY:
        raise Damaged("it does not begin as torch.save does")
    scan(stream), scan(stream)  # the format's version, and the machine's
    content = scan(stream)
    keys = scan(stream).tree
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(content.storages):
        raise Damaged("its list of data is another's")
    # Eight bytes before each tell its length.
    if sum(s.size + 8 for s in content.storages.values()) > size - stream.tell():
        raise Oversized("its tensors are larger than the file")
    return content


def _refuse_sharing(content: Scanned) -> None:
    """Tied weights share their data; hundreds of tensors do not."""
    there = sum(storage.size for storage in content.storages.values())
    claimed = sum(tensor.size for _, tensor in flat(content.tree) if tensor.whole)
    if claimed > 4 * there:
        raise Oversized("a few numbers are said to be many")


def flat(tree: Any) -> Iterator[tuple[str, Any]]:
    """(name, tensor or `Described`) of dicts within dicts, the names joined by dots; anything else in them
    is left out. Raises Oversized for more of them than a model has.
    """
    left = NAMES
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    while waiting:
        prefix, value, depth = waiting.pop()
        if isinstance(value, (torch.Tensor, Described)):
            yield prefix, value
        elif isinstance(value, dict) and depth < DEPTH:
            left -= len(value) * (1 + len(prefix) // 100)
            if left < 0:
                raise Oversized(f"it has more than {NAMES:,} names")
            items = reversed(value.items())
            waiting += [(f"{prefix}.{k}" if prefix else str(k), v, depth + 1) for k, v in items]


def whole(tensor: torch.Tensor) -> bool:
    """Whether it is a plain one, and no few bytes are said to be many."""
    return (
        tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_nested)
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def weights_in(tree: Any) -> dict[str, torch.Tensor]:
    """A dict of tensors by their names. Raises TypeError for anything else."""
    if not isinstance(tree, dict) or not all(isinstance(t, torch.Tensor) for t in tree.values()):
        raise TypeError("not all of it is tensors")
    if not all(isinstance(name, str) and whole(tensor) for name, tensor in tree.items()):
        raise TypeError("it holds tensors without values")
    return dict(tree)
