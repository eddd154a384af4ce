"""What lies in a tar, by its headers: read on after damage, where `tarfile` ends without a word."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
LONGEST = 1 << 16  # bytes of a header that carries a long name
_EMPTY = bytes(BLOCK)


@dataclass(frozen=True)
class Member:
    """A file in a tar: the place of its first header and of its data, in bytes."""

    name: str
    head: int
    start: int
    size: int


class Part(io.RawIOBase):
    """A part of an open file, as a file to read."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self.file, self.start, self.size, self.at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        self.file.seek(self.start + self.at)
        data = self.file.read(max(0, min(len(buffer), self.size - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)


def members(file: BinaryIO, total: int, damage: list[str], at: int = 0) -> Iterator[Member]:
    """The files from the header at ``at`` on, of a tar of ``total`` bytes. Behind a damaged header the next
    good one is looked for; ``damage`` says where, once for each place.
    """
    head, name, size = at, "", -1  # what headers before the file's own say of it
    ended = broken = False
    while at + BLOCK <= total:
        file.seek(at)
        block = file.read(BLOCK)
        if block == _EMPTY:
            ended, at = True, at + BLOCK
            head = at
            continue
        info = _header(block)
        start = at + BLOCK
        if info is None or start + info.size > total:
            if not broken:
                damage.append(_what(info, at))
            broken, at = True, start
            head, name, size = at, "", -1
            continue
        broken = ended = False
        at = start + -(-info.size // BLOCK) * BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            data = file.read(info.size) if info.size <= LONGEST else b""
            name, size = (_text(data), size) if info.type == tarfile.GNUTYPE_LONGNAME else _pax(data)
            continue
        if info.type not in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
            if info.isreg() and not info.issparse():
                at = start + -(-max(size, info.size) // BLOCK) * BLOCK
                yield Member(name or info.name, head, start, max(size, info.size))
            name, size, head = "", -1, at
    if not ended:
        damage.append("ends without the mark of its end, as when it was cut off")


def _header(block: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # the checksum is wrong
        return None
    return info if info.size >= 0 else None


def _what(info: tarfile.TarInfo | None, at: int) -> str:
    return f"damaged at byte {at}" if info is None else f"{info.name} is cut off"


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> tuple[str, int]:
    """(path, size) of a pax header's lines "length name=value", empty and -1 where it does not say."""
    fields: dict[bytes, bytes] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) < int(length) <= len(data):
            break
        line, data = data[: int(length)], data[int(length) :]
        key, _, value = line[len(length) + 1 :].rstrip(b"\n").partition(b"=")
        fields[key] = value
    size = fields.get(b"size", b"")
    return _text(fields.get(b"path", b"")), int(size) if size.isdigit() else -1
