"""A run's folder: its files, and the record that says that it is complete."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.whole_file import write_part
from ..messages import quoted
from ..texts import read_json
from .answers import Output, Text
from .names import BAD_CHARACTERS, label, prefix, suffix
from .workflow import Workflow, title

RECORD = "run.json"  # written last, so a folder that has it is complete
# A record holds the workflow and the files' names.
LARGEST_RECORD = 64 << 20
OWN = re.compile(r"\d{3,}(_[^/\\]*)?(\.[^./\\]*)?", re.DOTALL)  # every name that keep() gives
MARK = ".zsamb.part"  # of a file that is not whole


@dataclass(frozen=True)
class Job:
    """A workflow that is ready but for its pictures, which go to the server that runs it."""

    name: str
    place: str  # of its row, for messages; empty for a run that no manifest asks for
    folder: Path
    workflow: Workflow
    pictures: dict[str, Path]  # by node id, for that node's input ``image``
    changed: list[tuple[str, str]]  # (node id, input) that a row or the command line set
    fingerprint: str  # of the workflow and the pictures' content


class Damaged(ValueError):
    """A record that cannot be what a run wrote; says why."""


def is_done(job: Job) -> bool:
    """Whether the job's folder has all files of a run with these very inputs."""
    try:
        record = _record(job.folder)
        return record.get("fingerprint") == job.fingerprint and all(
            path.is_file() and path.stat().st_size == size for path, size in _files(job.folder, record)
        )
    except (OSError, Damaged):
        return False


def damage(job: Job) -> str:
    """What is wrong with the folder's record, or nothing; no record is nothing wrong."""
    try:
        _record(job.folder)
    except Damaged as error:
        return f"{RECORD} is damaged ({error}), so this is done again"
    except OSError:
        pass
    return ""


def refuse_link(job: Job) -> None:
    """Raises OSError where a row's folder is a link: its files would go elsewhere than asked for."""
    is_junction: Callable[[Path], bool] = getattr(os.path, "isjunction", lambda _: False)  # Python 3.12
    if job.place and (job.folder.is_symlink() or is_junction(job.folder)):
        raise OSError(f"{job.folder} is a link, expected a folder in --out; nothing was written through it")


def keep(
    job: Job, server: str, files: Sequence[tuple[Output, bytes]], texts: Sequence[Text] = ()
) -> tuple[list[Path], list[Path]]:
    """Write a run's files and texts to the job's folder, and return their paths.

    Files of one node are 001.png and so on. Of several nodes, each has its node's title and the prefix that
    the server saved it by behind its number: 001_Save-Image_cat.png. Texts come after them: 003_Score.json.

    All are written under other names first, so that a full disk loses nothing of an earlier run; the record
    that makes the folder count as done comes last. What an earlier run left there goes; other files stay.
    Raises OSError.
    """
    folder = job.folder
    folder.mkdir(parents=True, exist_ok=True)
    several = len({output.node for output, _ in files}) > 1
    names = [_name(i, output, job.workflow, several) for i, (output, _) in enumerate(files, 1)]
    written = [content for _, content in files]
    for i, text in enumerate(texts, len(files) + 1):
        node = label(title(job.workflow, text.node))
        names.append(f"{i:03}{node and f'_{node}'}{'.json' if text.is_json else '.txt'}")
        written.append(text.content.encode(errors="backslashreplace"))
    for name in (*names, RECORD):
        if (folder / name).is_dir():
            raise OSError(f"{folder / name} is a folder, where a file is to be written; move it away")
    try:
        earlier = [path for path, _ in _files(folder, _record(folder))]
    except (OSError, Damaged):
        earlier = []
    for stale in folder.iterdir():
        whole = stale.name.removesuffix(MARK)
        if whole != stale.name and (whole == RECORD or OWN.fullmatch(whole)) and not stale.is_dir():
            stale.unlink()
    paths = [folder / name for name in names]
    for path, content in zip(paths, written, strict=True):
        _write(path, content)
    (folder / RECORD).unlink(missing_ok=True)
    for path in earlier:
        if path not in paths and not path.is_dir():
            path.unlink(missing_ok=True)
    for path in paths:
        _part(path).replace(path)
    sources: list[Mapping[str, Any]] = [
        {"saved_as": "/".join(p for p in (o.subfolder, o.filename) if p), "node": o.node} for o, _ in files
    ]
    sources += [{"node": text.node} for text in texts]
    entries = [
        {"name": p.name, "bytes": len(c), **s, "title": title(job.workflow, s["node"])}
        for p, c, s in zip(paths, written, sources, strict=True)
    ]
    record = {
        "fingerprint": job.fingerprint,
        "server": server,
        "files": entries[: len(files)],
        "texts": entries[len(files) :],
        "pictures": {node: str(file) for node, file in job.pictures.items()},
        "workflow": job.workflow,
    }
    _write(folder / RECORD, json.dumps(record, indent=1).encode())
    _part(folder / RECORD).replace(folder / RECORD)
    return paths[: len(files)], paths[len(files) :]


def _name(number: int, output: Output, workflow: Workflow, several: bool) -> str:
    ending = suffix(output.filename)
    if not several:
        return f"{number:03}{ending}"
    parts = dict.fromkeys((label(title(workflow, output.node)), label(prefix(output.filename))))
    return "_".join([f"{number:03}", *filter(None, parts)]) + ending


def _part(path: Path) -> Path:
    return path.with_name(path.name + MARK)


def _write(path: Path, content: bytes) -> None:
    """Beside its place, on the disk before the record says so."""

    def write(part: Path) -> None:
        part.write_bytes(content)

    write_part(_part(path), write)


def _record(folder: Path) -> dict[str, Any]:
    """The folder's record. Raises OSError where there is none, and Damaged."""
    path = folder / RECORD
    about = path.stat()
    if not path.is_file():
        raise Damaged("it is no file")  # a pipe would be waited for
    if about.st_size > LARGEST_RECORD:
        raise Damaged(f"{about.st_size} bytes")
    try:
        record = read_json(path.read_bytes())
    except ValueError as error:
        raise Damaged(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise Damaged("no object in it")
    _files(folder, record)
    return record


def _files(folder: Path, record: dict[str, Any]) -> list[tuple[Path, int]]:
    """(path, size) of what the record lists. Raises Damaged for what no run wrote."""
    listed = [record.get("files"), record.get("texts", [])]
    if not all(isinstance(part, list) for part in listed):
        raise Damaged("it lists no files")
    files = []
    for entry in [*listed[0], *listed[1]]:
        name, size = (entry.get(key) for key in ("name", "bytes")) if isinstance(entry, dict) else (None, 0)
        # A record that was tampered with must lead neither out of the folder nor to a user's own file.
        if not isinstance(name, str) or not OWN.fullmatch(name) or BAD_CHARACTERS.search(name):
            raise Damaged(f"it lists {quoted(entry)}, which no run writes")
        if type(size) is not int or size < 0:
            raise Damaged(f"the size of {name} is {quoted(size)}")
        files.append((folder / name, size))
    if not files:
        raise Damaged("it lists no files")
    return files
