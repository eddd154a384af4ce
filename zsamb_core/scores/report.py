"""Scores as a printed table in the form of the published ones, as CSV, JSON and a picture."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.whole_file import write_new

if TYPE_CHECKING:
    from PIL import Image

# A set's numbers by name, as scores.json has them; what was not asked for is None, or an empty list.
Entry = dict[str, Any]
SHOWN = 40  # sets on scores.png


def mean(values: Sequence[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return math.fsum(there) / len(there) if there else None


def short(value: float | None) -> str:
    """As the published tables have it: .3454"""
    return "-" if value is None else re.sub(r"^(-?)0\.", r"\1.", f"{value:.4f}")


def table(entries: list[Entry]) -> list[str]:
    """For sets without weights a line per group, the mean over its sets; for those with weights a table of
    each choice of references, with a line per choice of weights and a block of columns per group.
    """
    lines = []
    plain = [e for e in entries if not e["weights"]]
    for label in dict.fromkeys(e["group"] or e["name"] for e in plain):
        sets = [e for e in plain if label == (e["group"] or e["name"])]
        clip, dino = (short(mean([e[key] for e in sets])) for key in ("clip", "consistency"))
        lines.append(f"{label:24} CLIP {clip:>6}  DINO {dino:>6}  sets {len(sets)}")
    weighted = [e for e in entries if e["weights"]]
    for references in dict.fromkeys(tuple(e["references"]) for e in weighted):
        sets = [e for e in weighted if tuple(e["references"]) == references]
        groups = list(dict.fromkeys(e["group"] for e in sets))
        heads = [*(f"MS {Path(name).stem[:8]}" for name in references), "WMS", "CLIP"]
        widths = [max(8, len(head) + 2) for head in heads]
        columns = "".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True))
        left = max(24, 6 * len(references))
        lines.append(f"{'':{left}}" + "".join(f" | {g or 'sets':{sum(widths)}}" for g in groups))
        lines.append(f"{'weights':{left}}" + f" | {columns}" * len(groups))
        for weights in dict.fromkeys(tuple(e["weights"]) for e in sets):
            line = f"{'/'.join(f'{w:.4g}' for w in weights):{left}}"
            for group in groups:
                cell = [e for e in sets if e["group"] == group and tuple(e["weights"]) == weights]
                values = [mean(list(ms)) for ms in zip(*(e["similarity"] for e in cell), strict=True)]
                values += [None] * (len(references) - len(values))
                values += [mean([e[key] for e in cell]) for key in ("wms", "clip")]
                line += " | " + "".join(f"{short(v):>{w}}" for v, w in zip(values, widths, strict=True))
            lines.append(line)
    return lines


def numbered(entry: Entry, *keys: str) -> Entry:
    """A column per reference: ``{"similarity": [a, b]}`` to ``{"similarity 1": a, "similarity 2": b}``."""
    return {f"{key} {i + 1}": x for key in keys for i, x in enumerate(entry.get(key) or [])}


def put(path: Path, data: bytes) -> None:
    """Write a result; another one of an earlier run stays, under a number."""
    if path.exists() and path.read_bytes() != data:
        numbered = (path.with_name(f"{path.stem}_{n:05}{path.suffix}") for n in count(1))
        copy = write_new(numbered, lambda place: _copy(path, place))
        print(f"{path} of an earlier run is kept as {copy.name}")
    path.write_bytes(data)


def _copy(path: Path, place: Path) -> None:
    place.write_bytes(path.read_bytes())


def write_csv(path: Path, rows: list[Entry]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    columns.sort(key=lambda key: int(key.split()[-1]) if key[-1].isdecimal() else 0)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    put(path, stream.getvalue().encode())


def write(entries: list[Entry], about: Entry, out: Path) -> None:
    sets, pictures = [], []
    for e in entries:
        row = {key: e[key] for key in ("name", "group", "images", "consistency", "wms", "baseline")}
        row |= {"correlation": e["correlation"], "clip": e["clip"]}
        listed = {"reference": e["references"], "weight": e["weights"], "gain": e["gains"]}
        sets.append(row | numbered(listed | {"similarity": e["similarity"]}, *listed, "similarity"))
        for p in e["pictures"]:
            row = {"set": e["name"]} | {key: p[key] for key in ("file", "prompt", "clip")}
            pictures.append(row | numbered(p, "similarity"))
    write_csv(out / "scores.csv", sets)
    write_csv(out / "images.csv", pictures)
    put(out / "scores.json", json.dumps(about | {"sets": entries}, indent=1).encode())
    picture = io.BytesIO()
    drawn(entries).save(picture, "PNG")
    put(out / "scores.png", picture.getvalue())


def named_values(entry: Entry) -> list[tuple[str, float]]:
    weights = entry["weights"] or [None] * len(entry["references"])
    named = zip(entry["references"], weights, entry["similarity"], strict=False)
    values = [(f"{n[:20]}" + ("" if w is None else f" at {w:.4g}"), s) for n, w, s in named]
    values += [("WMS", entry["wms"]), ("CLIP", entry["clip"])]
    return [(label, value) for label, value in values if value is not None]


def drawn(entries: list[Entry]) -> "Image.Image":
    """For each set the cosines of its pairs, and a bar per reference."""
    from .picture import bars, matrix, stacked

    pictures = []
    for entry in entries[:SHOWN]:
        title = entry["name"] + (f" ({entry['group']})" if entry["group"] else "")
        title += f", {entry['images']} pictures, consistency {short(entry['consistency'])}"
        if entry["matrix"]:
            names = [str(i + 1) for i in range(len(entry["matrix"]))]
            pictures.append(matrix(entry["matrix"], names, names, title))
        values = named_values(entry)
        if values:
            pictures.append(bars([v for _, v in values], [n for n, _ in values], title))
    return stacked(pictures)
