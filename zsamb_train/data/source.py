"""Open a set of pictures, in whatever form it is."""

import glob
from collections.abc import Callable
from pathlib import Path

from .listed import Listed, files_below, in_folder, in_list, in_metadata
from .parquet import Table
from .pictures import SUFFIXES
from .sample import Sample, Source
from .shards import Shards

__all__ = ["Sample", "Source", "open_source"]

METADATA = "metadata.jsonl"
KINDS = (
    f"a folder of pictures with .txt captions or {METADATA}, of .tar shards, or of .parquet files; or a .json"
    ' list of {"image_file", "text"}'
)


def open_source(
    path: Path,
    root: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """The set at ``path``: a folder, a file, or a pattern such as ``set/*.tar``, told by what is there.
    ``root``: the folder of a JSON list's files, else the list's own. ``cache``: a folder for indexes that
    cannot be kept beside the set, and for the copy of Parquet files. ``progress`` is called with how many
    shards are known, and of how many. Raises ValueError for what is no set, and where no picture is left.
    """
    if root is not None and path.suffix.lower() != ".json":
        raise ValueError(
            f"a folder of pictures ({root}) is given beside {path}, expected it for a .json list alone"
        )
    if path.is_dir():
        return _folder(path, cache, progress)
    if path.is_file():
        return _file(path, root, cache, progress)
    if found := sorted(map(Path, glob.glob(str(path), recursive=True))):
        return _files(path, [p for p in found if p.is_file()], cache, progress)
    raise ValueError(f"there is no {path}, expected {KINDS}")


def _folder(path: Path, cache: Path | None, progress: Callable[[int, int], None] | None) -> Source:
    if (path / METADATA).is_file():
        return Listed(path, in_metadata(path / METADATA), f"{path / METADATA}")
    names = files_below(path)
    count = {
        kind: sum(name.lower().endswith(kind) for name in names) for kind in (".tar", ".parquet", SUFFIXES)
    }
    there = [f"{n} {'picture' if kind == SUFFIXES else kind} files" for kind, n in count.items() if n]
    if len(there) > 1:
        raise ValueError(f"{path} has {' and '.join(there)}, expected files of one kind. Give each a folder.")
    if count[SUFFIXES]:
        return Listed(path, in_folder(names), f"{path}")
    if not there:
        packed = next((name for name in names if name.lower().endswith((".tar.gz", ".tgz", ".zip"))), "")
        hint = f". {packed} is compressed: unpack it" if packed else ""
        raise ValueError(f"{path} has {len(names)} files and no pictures, expected {KINDS}{hint}")
    return _files(path, [path / name for name in names], cache, progress)


def _files(
    path: Path, found: list[Path], cache: Path | None, progress: Callable[[int, int], None] | None
) -> Source:
    tars = [p for p in found if p.suffix.lower() == ".tar"]
    tables = [p for p in found if p.suffix.lower() == ".parquet"]
    if bool(tars) == bool(tables):
        raise ValueError(f"{path} finds {len(found)} files, expected .tar or .parquet files, of one kind")
    return Shards(tars, cache, progress) if tars else Table(tables, cache)


def _file(
    path: Path, root: Path | None, cache: Path | None, progress: Callable[[int, int], None] | None
) -> Source:
    if path.suffix.lower() == ".json":
        folder = root or path.parent
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}, expected the one of the pictures in {path.name}")
        return Listed(folder, in_list(path), f"{path}")
    if path.suffix.lower() == ".jsonl":
        return Listed(path.parent, in_metadata(path), f"{path}")
    if path.suffix.lower() in (".tar", ".parquet"):
        return _files(path, [path], cache, progress)
    raise ValueError(f"{path} is no set of pictures, expected {KINDS}")
