"""Batch manifests: rows of inputs for one workflow, checked as a whole before any of them runs, and the
folders that say which rows are done.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workflow import Workflow, WorkflowError, find_inputs, find_picture_input, set_input

OUTPUT = "output"  # the column with a row's name
PICTURE = "image:"  # before the id or title of the node that takes the column's files
RECORD = "run.json"  # written last, so a folder that has it is complete
SHOWN = 20  # mistakes that one message lists

# Windows allows neither these characters nor these names.
BAD_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
BAD_NAMES = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}


class ManifestError(ValueError):
    """The manifest, or rows of it, cannot be run; names each mistake."""


@dataclass(frozen=True)
class Row:
    """One row: its place for messages, its name, values by address and picture files by node."""

    place: str
    output: str
    values: dict[str, Any]
    pictures: dict[str, Path]


@dataclass(frozen=True)
class Job:
    """A workflow that is ready but for its pictures, which go to the server that runs it."""

    name: str
    place: str  # of its row, for messages
    folder: Path
    workflow: Workflow
    pictures: dict[str, Path]  # by node id, for that node's input ``image``
    changed: list[tuple[str, str]]  # (node id, input) that a row or the command line set
    fingerprint: str  # of the workflow and the pictures' content


def read_manifest(path: Path) -> list[Row]:
    """Rows of a .csv or .jsonl file. Picture files are relative to the manifest's folder.

    Raises ManifestError that lists the rows that are wrong.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(f"{path}: a manifest is a .csv or a .jsonl file")
    rows, wrong = [], []
    names: dict[str, str] = {}
    try:
        for place, fields in reader(path):
            try:
                if isinstance(fields, str):
                    raise ManifestError(fields)
                row = _row(place, fields, path.parent)
                before = names.setdefault(row.output.casefold(), place)
                if before != place:
                    raise ManifestError(f"{OUTPUT} is {row.output!r}, as in {before}; names must differ")
                rows.append(row)
            except ManifestError as error:
                wrong.append(f"{place}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path}: cannot be read ({error})") from error
    _refuse(path, wrong)
    if not rows:
        raise ManifestError(f"{path}: no rows in it")
    return rows


def prepare(
    workflow: Workflow,
    name: str,
    place: str,
    folder: Path,
    values: Sequence[tuple[str, Any]],
    pictures: Mapping[str, Path],
) -> Job:
    """A job from a workflow, (address, value) pairs and picture files by node id or title.

    Raises ManifestError for an input, a node or a picture that is wrong.
    """
    changed: list[tuple[str, str]] = []
    try:
        for address, value in values:
            changed += find_inputs(workflow, address)
            workflow = set_input(workflow, address, value)
        files = {find_picture_input(workflow, node): file for node, file in pictures.items()}
    except WorkflowError as error:
        raise ManifestError(str(error)) from error
    seen: Workflow = workflow
    for node, file in files.items():
        seen = set_input(seen, f"{node}.image", _picture_hash(file))
    fingerprint = hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()
    changed = [c for c in dict.fromkeys(changed) if c not in [(n, "image") for n in files]]
    return Job(name, place, folder, workflow, files, changed, fingerprint)


def prepare_rows(
    path: Path,
    workflow: Workflow,
    out: Path,
    values: Sequence[tuple[str, Any]],
    pictures: Mapping[str, Path],
) -> list[Job]:
    """A job for each row of the manifest, in ``out``/name. ``values`` and ``pictures`` hold for all rows;
    a row's own come after them. Raises ManifestError that lists the rows that are wrong.
    """
    jobs, wrong = [], []
    for row in read_manifest(path):
        try:
            own = [*values, *row.values.items()]
            job = prepare(
                workflow, row.output, row.place, out / row.output, own, {**pictures, **row.pictures}
            )
            jobs.append(job)
        except ManifestError as error:
            wrong.append(f"{row.place}: {error}")
    _refuse(path, wrong)
    return jobs


def is_done(job: Job) -> bool:
    """Whether the job's folder has all files of a run with these very inputs."""
    record = _record(job.folder)
    return record.get("fingerprint") == job.fingerprint and all(
        path.is_file() and path.stat().st_size == size for path, size in _files(job.folder, record)
    )


def keep(job: Job, server: str, files: Sequence[tuple[str, bytes]]) -> list[Path]:
    """Write a run's files, (name on the server, content), to the job's folder as 001.png and so on.

    Each is written under another name and moved when complete; the record that makes the folder count as
    done comes last. What an earlier run left there goes; other files stay.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    for path, _ in _files(job.folder, _record(job.folder)):
        path.unlink(missing_ok=True)
    (job.folder / RECORD).unlink(missing_ok=True)
    for stale in job.folder.glob("*.part"):
        stale.unlink()
    paths = []
    for i, (name, content) in enumerate(files, 1):
        paths.append(job.folder / f"{i:03}{Path(name).suffix.lower()}")
        _write(paths[-1], content)
    record = {
        "fingerprint": job.fingerprint,
        "server": server,
        "files": [{"name": p.name, "bytes": len(c)} for p, (_, c) in zip(paths, files, strict=True)],
        "pictures": {node: str(file) for node, file in job.pictures.items()},
        "workflow": job.workflow,
    }
    _write(job.folder / RECORD, json.dumps(record, indent=1).encode())
    return paths


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # on the disk before the record says so
    part.replace(path)


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), list) else {}


def _files(folder: Path, record: dict[str, Any]) -> list[tuple[Path, int]]:
    # The name alone: a record that was tampered with must not lead out of the folder.
    return [(folder / Path(str(f["name"])).name, int(f["bytes"])) for f in record.get("files", [])]


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise ManifestError("\n".join([f"{path}: nothing was run.", *wrong[:SHOWN], *more]))


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(place, fields or what is wrong) of each row. An empty cell leaves the workflow's value."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        head = [cell.strip() for cell in next(reader, [])]
        if OUTPUT not in head:
            raise ManifestError(
                f"{path}: its first line has the columns {head}, expected one named {OUTPUT!r} among them,"
                " with commas between them"
            )
        twice = sorted({cell for cell in head if head.count(cell) > 1})
        if twice or "" in head:
            raise ManifestError(f"{path}: columns {twice or 'without a name'}; each needs a name of its own")
        number = 0
        for cells in reader:
            if not cells:
                continue
            number += 1
            place = f"row {number} (line {reader.line_num})"
            if len(cells) != len(head):
                yield place, f"{len(cells)} cells, expected {len(head)} as in the first line"
            else:
                yield place, {key: cell for key, cell in zip(head, cells, strict=True) if cell != ""}


def _read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    number = 0
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        number += 1
        place = f"row {number} (line {i})"
        try:
            fields = json.loads(line, object_pairs_hook=_once)
        except ValueError as error:
            yield place, f"not JSON ({error})"
            continue
        yield place, fields if isinstance(fields, dict) else "not an object, expected {...}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return fields


def _row(place: str, fields: dict[str, Any], base: Path) -> Row:
    values = dict(fields)
    output = values.pop(OUTPUT, None)
    if not isinstance(output, str) or not output.strip():
        raise ManifestError(f"{OUTPUT} is {output!r}, expected a name for the row's folder")
    if (
        BAD_CHARACTERS.search(output)
        or output != output.strip(" ")
        or output.startswith(".")
        or output.endswith(".")
        or output.partition(".")[0].lower() in BAD_NAMES
    ):
        raise ManifestError(
            f'{OUTPUT} is {output!r}, expected a folder name: no slashes or any of <>:"|?*, no dot first or'
            " last, no space first or last, no name that Windows keeps for itself"
        )
    pictures = {}
    for key in [key for key in values if key.startswith(PICTURE)]:
        file = values.pop(key)
        if not isinstance(file, str) or not file:
            raise ManifestError(f"{key} is {file!r}, expected a picture file")
        pictures[key.removeprefix(PICTURE).strip()] = base / file
    return Row(place, output, values, pictures)


def _picture_hash(path: Path) -> str:
    """SHA-256 of a picture file. Raises ManifestError for what is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.verify()
        return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    # Broken files make Pillow raise whatever its decoders meet.
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ManifestError(f"picture {path}: not a picture file that can be read ({error})") from error
