"""Batch manifests: rows of inputs for one workflow, checked as a whole before any of them runs."""

import csv
import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..messages import quoted
from ..texts import decode, has_half, read_json
from .names import is_folder_name, same_as
from .row_folder import Job
from .workflow import Workflow, WorkflowError, find_inputs, find_picture_input, set_input

OUTPUT = "output"  # the column with a row's name
PICTURE = "image:"  # before the id or title of the node that takes the column's files
SHOWN = 20  # mistakes that one message lists


class ManifestError(ValueError):
    """The manifest, or rows of it, cannot be run; names each mistake."""


@dataclass(frozen=True)
class Row:
    """One row: its place for messages, its name, values by address and picture files by node."""

    place: str
    output: str
    values: dict[str, Any]
    pictures: dict[str, Path]


def read_manifest(path: Path) -> list[Row]:
    """Rows of a .csv or .jsonl file. Picture files are relative to the manifest's folder.

    Raises ManifestError that lists the rows that are wrong.
    """
    rows = _read(path)
    _refuse(path, [row for row in rows if isinstance(row, str)])
    return [row for row in rows if isinstance(row, Row)]


def _read(path: Path) -> list[Row | str]:
    """The rows, and for each that is wrong its place and why. Raises ManifestError where there are none."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(f"{path}: a manifest is a .csv or a .jsonl file")
    try:
        text = decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read ({error})") from error
    rows: list[Row | str] = []
    names: dict[str, str] = {}
    try:
        for place, fields in reader(path, text):
            try:
                if isinstance(fields, str):
                    raise ManifestError(fields)
                row = _row(place, fields, path.parent)
                before = names.setdefault(same_as(row.output), place)
                if before != place:
                    raise ManifestError(f"{OUTPUT} is {row.output!r}, as in {before}; names must differ")
                rows.append(row)
            except ManifestError as error:
                rows.append(f"{place}: {error}")
    except csv.Error as error:
        rows.append(f"the rows behind row {len(rows)} cannot be read ({error})")
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
            if has_half(json.dumps(value, ensure_ascii=False)):
                raise WorkflowError(f"{address} is {quoted(value)}: half of a character, expected text")
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
    jobs, wrong = check_rows(path, workflow, out, values, pictures)
    _refuse(path, wrong)
    return jobs


def check_rows(
    path: Path,
    workflow: Workflow,
    out: Path,
    values: Sequence[tuple[str, Any]],
    pictures: Mapping[str, Path],
) -> tuple[list[Job], list[str]]:
    """(the jobs of the rows that are in order, for each other row its place and what is wrong), of all rows
    in one pass. Raises ManifestError for what is no manifest.
    """
    jobs, wrong = [], []
    for row in _read(path):
        if isinstance(row, str):
            wrong.append(row)
            continue
        own, files = [*values, *row.values.items()], {**pictures, **row.pictures}
        try:
            jobs.append(prepare(workflow, row.output, row.place, out / row.output, own, files))
        except ManifestError as error:
            wrong.append(f"{row.place}: {error}")
    return jobs, wrong


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise ManifestError("\n".join([f"{path}: nothing was run.", *wrong[:SHOWN], *more]))


def _read_csv(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(place, fields or what is wrong) of each row. An empty cell leaves the workflow's value; rows and
    columns of empty cells, which spreadsheets leave behind a table, are not there.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    head = [cell.strip() for cell in next(reader, [])]
    while head and not head[-1]:
        head.pop()
    if OUTPUT not in head:
        raise ManifestError(
            f"{path}: its first line has the columns {quoted(head)}, expected one named {OUTPUT!r} among"
            " them, with commas between them"
        )
    twice = sorted({cell for cell in head if head.count(cell) > 1})
    if twice or "" in head:
        raise ManifestError(f"{path}: columns {twice or 'without a name'}; each needs a name of its own")
    number = 0
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        number += 1
        place = f"row {number} (line {reader.line_num})"
        over = [cell for cell in cells[len(head) :] if cell.strip()]
        if len(cells) < len(head) or over:
            yield place, f"{len(cells)} cells, expected {len(head)} as in the first line"
        else:
            yield place, {key: cell for key, cell in zip(head, cells, strict=False) if cell != ""}


def _read_jsonl(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any] | str]]:
    number = 0
    for i, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        number += 1
        place = f"row {number} (line {i})"
        try:
            fields = read_json(line, once=True)
        except ValueError as error:
            yield place, f"not JSON ({error})"
            continue
        yield place, fields if isinstance(fields, dict) else "not an object, expected {...}"


def _row(place: str, fields: dict[str, Any], base: Path) -> Row:
    values = dict(fields)
    output = values.pop(OUTPUT, None)
    if not isinstance(output, str) or not output.strip():
        raise ManifestError(f"{OUTPUT} is {quoted(output)}, expected a name for the row's folder")
    if not is_folder_name(output):
        raise ManifestError(
            f'{OUTPUT} is {quoted(output)}, expected a folder name: no slashes or any of <>:"|?*, no dot'
            " first or last, no space first or last, no half of a character, no name that Windows keeps for"
            " itself"
        )
    pictures = {}
    for key in [key for key in values if key.startswith(PICTURE)]:
        file = values.pop(key)
        if not isinstance(file, str) or not file:
            raise ManifestError(f"{key} is {quoted(file)}, expected a picture file")
        pictures[key.removeprefix(PICTURE).strip()] = base / file
    return Row(place, output, values, pictures)


def _picture_hash(path: Path) -> str:
    """SHA-256 of a picture file. Raises ManifestError for what is none."""
    from PIL import Image

    def refused(why: object) -> ManifestError:
        return ManifestError(f"picture {path}: not a picture file that can be read ({why})")

    try:
        # A pipe would be waited for, and a device has no end.
        if path.exists() and not path.is_file():
            raise refused("a folder, a pipe or a device")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a size that is large, but not refused
            with Image.open(path) as image:
                image.verify()
        with path.open("rb") as file:
            content = hashlib.sha256()
            while chunk := file.read(1 << 20):
                content.update(chunk)
        return "sha256:" + content.hexdigest()
    except ManifestError:
        raise
    except Image.DecompressionBombError as error:
        raise refused(f"{error}; make it smaller") from error
    # Broken files make Pillow raise whatever its decoders meet.
    except Exception as error:
        raise refused(error) from error
