"""Sets that list picture files: a folder with captions beside, ``metadata.jsonl``, or one JSON list."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from zsamb_core.files.small_file import read_small
from zsamb_core.messages import quoted, short
from zsamb_core.texts import decode, read_json

from .packed import Packed
from .pictures import SUFFIXES, read_rgb, size_of
from .sample import Sample

CAPTION = 1 << 16  # bytes of a caption's file
TOGETHER = 4096  # files that are looked at before the next are listed
READERS = 8  # threads; most of their time is waiting for the disk


@dataclass(frozen=True)
class Entry:
    """A picture's file, below the set's folder; ``caption`` None where a text file beside it has it."""

    name: str
    caption: str | None
    group: str


class Listed:
    """A `Source` of picture files under ``root``."""

    cached, pictured = False, True
    latent_sizes: np.ndarray | None = None

    def __init__(self, root: Path, entries: Iterable[Entry | str], what: str) -> None:
        """``entries``: or why there is none, for `skipped`. ``what``: the set, for the error where no
        picture is left. Raises that as ValueError.
        """
        self.root = root
        self.skipped: list[str] = []
        self.notes: list[str] = []
        names: dict[str, int] = {}
        texts, sizes, groups, total = (
            list[tuple[str, str]](),
            list[tuple[int, int]](),
            list[int](),
            hashlib.sha256(),
        )
        for entry, found in self._looked_at(entries):
            if isinstance(entry, str) or isinstance(found, str):
                self.skipped.append(entry if isinstance(entry, str) else f"{entry.name}: {found}")
                continue
            (width, height), caption, weight = found
            texts.append((entry.name, caption))
            sizes.append((width, height))
            groups.append(names.setdefault(entry.group, len(names)) if entry.group else -1)
            mark = f"{entry.name}\0{caption}\0{entry.group}\0{width} {height} {weight}\n"
            total.update(mark.encode("utf-8", "surrogatepass"))
        if not texts:
            reason = f" The first reason: {self.skipped[0]}." if self.skipped else ""
            raise ValueError(
                f"{what} has no picture that can be used.{reason} Expected {', '.join(SUFFIXES)} files."
            )
        self.names, self.captions = Packed(name for name, _ in texts), Packed(text for _, text in texts)
        self.sizes, self.groups = np.array(sizes, np.int32), np.array(groups, np.int32)
        self.group_names, self.digest = [*names], total.hexdigest()
        if empty := sum(not text for _, text in texts):
            self.notes.append(f"{empty} of {len(texts)} pictures have no caption: theirs is empty")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int, *, picture: bool = True, latent: bool = True) -> Sample:
        name = self.names[i]
        width, height = map(int, self.sizes[i])
        try:
            shown = read_rgb(self.root / name) if picture else None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return Sample(name, self.captions[i], shown, None, None, shown.size if shown else (width, height))

    def _looked_at(self, entries: Iterable[Entry | str]) -> Iterator[tuple[Entry | str, Any]]:
        """Each entry with ((width, height), caption, bytes), or with why it is left out; in their order."""
        entries = iter(entries)
        with ThreadPoolExecutor(READERS) as threads:
            while some := list(islice(entries, TOGETHER)):
                yield from zip(some, threads.map(self._look, some), strict=True)

    def _look(self, entry: Entry | str) -> tuple[tuple[int, int], str, int] | str:
        if isinstance(entry, str):
            return entry
        try:
            path = self.root / entry.name
            if path.is_file() and not (weight := path.stat().st_size):
                return "the file is empty"
            size = size_of(path)
            caption = _beside(path) if entry.caption is None else entry.caption.strip()
            return size, caption, weight
        except (OSError, ValueError) as error:
            return short(str(error))


def _beside(picture: Path) -> str:
    """The caption in the text file of the same stem, empty where there is none."""
    file = picture.with_suffix(".txt")
    if not file.is_file():
        return ""
    try:
        return decode(read_small(file, CAPTION)).strip()
    except ValueError as error:
        raise ValueError(f"its caption {file.name} cannot be read ({error})") from error


def files_below(folder: Path) -> list[str]:
    """Sorted names of all files below a folder but hidden ones; through links too, and no folder twice."""
    found, seen = list[str](), set[str]()
    for path, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(path).relative_to(folder)
        found += [(below / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def in_folder(names: Iterable[str]) -> Iterator[Entry]:
    """Pictures among a folder's files; the subfolder that one lies in is its style group."""
    for name in names:
        if name.lower().endswith(SUFFIXES):
            yield Entry(name, None, name.rpartition("/")[0])


def in_metadata(file: Path) -> Iterator[Entry | str]:
    """Lines of a metadata.jsonl: file_name, text or caption, and if it is given group or style."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{file.name} line {number}"
                try:
                    yield _entry(read_json(line), "file_name", where)
                except ValueError as error:
                    yield f"{where}: {short(str(error))}"


def in_list(file: Path) -> Iterator[Entry | str]:
    """The published script's list of {"image_file", "text"}. Raises ValueError for a file that is none."""
    try:
        items = read_json(decode(file.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{file.name} cannot be read as JSON ({short(str(error))}).") from error
    if not isinstance(items, list):
        raise ValueError(
            f'{file.name} is a {type(items).__name__}, expected a list of {{"image_file": ..., "text": ...}}.'
        )
    for number, item in enumerate(items, 1):
        yield _entry(item, "image_file", f"{file.name} item {number}")


def _entry(item: Any, key: str, where: str) -> Entry | str:
    if not isinstance(item, dict) or not isinstance(item.get(key), str) or not item[key]:
        return f"{where}: {quoted(item)}, expected an object with {key}"
    text = item.get("text", item.get("caption")) or ""
    if not isinstance(text, str):
        return f"{where}: its caption is a {type(text).__name__}, expected a text"
    group = item.get("group", item.get("style"))
    return Entry(item[key], text, "" if group is None else short(group))
