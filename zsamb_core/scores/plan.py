"""What is to be scored: sets of pictures with their references, weights, prompts and baselines, read and
checked before any model is loaded.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
Prompts = dict[str, Any] | list[Any]  # by file name, or in order; texts once they are checked


@dataclass
class Set:
    """A plan's entry. ``prompts``: one per picture, in order; ``keys``: what each file's embedding is found
    by, its content's hash.
    """

    name: str
    images: list[Path]
    references: list[Path] = field(default_factory=list)
    weights: list[float] | None = None
    prompts: list[str] | None = None
    baseline: str | None = None
    group: str = ""
    keys: dict[Path, str] = field(default_factory=dict)


def natural(path: Path) -> tuple[list[int | str], str]:
    """Sorts 2 before 10."""
    parts = re.split("([0-9]+)", path.stem.casefold())
    return [int(p) if p.isdecimal() else p for p in parts], path.name


def pictures_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Give the folder of a set's pictures.")
    pictures = sorted((p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES), key=natural)
    if not pictures:
        raise ValueError(
            f"{folder} has no pictures ({len(list(folder.iterdir()))} other files), expected"
            f" {', '.join(SUFFIXES)}."
        )
    return pictures


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}), expected a text file in UTF-8.") from error


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_prompts(path: Path) -> Prompts:
    """By file name: a JSON object, or lines of name, tab, prompt; in order: a JSON list, or plain lines."""
    if path.suffix.lower() == ".json":
        prompts: Prompts = read_json(path)
        return prompts
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    split = [[part.strip() for part in line.split("\t", 1)] for line in lines]
    if all(len(parts) == 1 for parts in split):
        return lines
    by_name: dict[str, str] = {}
    for parts in split:
        if len(parts) == 1 or parts[0] in by_name:
            problem = "has no tab, and others have one" if len(parts) == 1 else "names that file again"
            raise ValueError(
                f"{path}: the line {' '.join(parts)!r} {problem}. Write each line as file name, tab, prompt,"
                " or none of them."
            )
        by_name[parts[0]] = parts[1]
    return by_name


def paired(images: list[Path], prompts: Prompts, where: str) -> list[str]:
    """One prompt per picture. Raises ValueError where that is not certain."""
    names = [p.name for p in images]
    texts = list(prompts.values()) if isinstance(prompts, dict) else prompts
    if not isinstance(texts, list) or not all(isinstance(p, str) and p.strip() for p in texts):
        raise ValueError(f"{where}: the prompts are not a list of texts, or an object of file name to text.")
    if isinstance(prompts, dict):
        twice, missing = (
            sorted({n for n in names if names.count(n) > 1}),
            [n for n in names if n not in prompts],
        )
        if missing or twice:
            problem = (
                f"no prompt for {', '.join(missing)}" if missing else f"two files named {', '.join(twice)}"
            )
            raise ValueError(
                f"{where}: there is {problem}. Each picture needs a prompt under its own file name; there are"
                f" prompts for {', '.join(list(prompts)[:5]) or 'none'}."
            )
        return [prompts[n] for n in names]
    if len(prompts) != len(names):
        raise ValueError(
            f"{where}: {len(prompts)} prompts for {len(names)} pictures ({names[0]} to {names[-1]}), so it is"
            " not known whose they are. Give as many as pictures, in natural order of file names, or by name."
        )
    return prompts


def check(item: Set, consistency: bool) -> Set:
    """Everything that can be wrong with a set before its pictures are opened."""
    if consistency and len(item.images) < 2:
        raise ValueError(
            f"{item.name} has one picture, {item.images[0].name}, expected two at least: DINO set consistency"
            " is of pairs. Add pictures, or leave out --dino."
        )
    for path in [*item.images, *item.references]:
        if not path.is_file():
            raise ValueError(f"{item.name}: there is no file {path}.")
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{item.name}: {path.name} is no picture, expected {', '.join(SUFFIXES)}.")
    own = {p.resolve() for p in item.images} & {p.resolve() for p in item.references}
    if own:
        raise ValueError(
            f"{item.name}: its reference {min(own).name} is one of its pictures too, so it would be compared"
            " with itself. Move it out of the folder, or list the pictures without it."
        )
    if item.weights is not None:
        problem = f"{item.name}: the weights are {item.weights} for {len(item.references)} references"
        if len(item.weights) != len(item.references):
            raise ValueError(f"{problem}, expected one for each.")
        if min(item.weights) < 0 or not abs(math.fsum(item.weights) - 1) < 1e-3:
            raise ValueError(f"{problem}, expected none below 0 and a sum of 1.")
    if item.baseline is not None and not item.references:
        raise ValueError(
            f"{item.name} has a baseline and no references: gains are of likeness to references."
        )
    return item


def read_plan(path: Path, consistency: bool = True) -> list[Set]:
    """Its paths are relative to the plan's own folder. Pictures that are listed keep their order."""
    plan = read_json(path)
    if not isinstance(plan, dict) or not isinstance(plan.get("sets"), list) or not plan["sets"]:
        raise ValueError(
            f'{path} has no list of sets, expected {{"sets": [{{"name": ..., "images": ...}}]}}.'
        )
    sets: list[Set] = []
    for i, entry in enumerate(plan["sets"]):
        sets.append(check(planned(path, i, entry), consistency))
    names = [s.name for s in sets]
    for item in sets:
        if names.count(item.name) > 1:
            raise ValueError(f"{path}: two sets are named {item.name}, expected each its own name.")
        if item.baseline is not None and (item.baseline not in names or item.baseline == item.name):
            raise ValueError(
                f"{path}: the baseline of {item.name} is {item.baseline!r}, expected the name of another set:"
                f" {', '.join(n for n in names if n != item.name) or 'there is none'}."
            )
    return sets


def planned(path: Path, index: int, entry: Any) -> Set:
    where = f"{path}: set {index + 1}"
    kinds: dict[str, tuple[type, ...]] = {"name": (str,), "images": (str, list), "references": (list,)}
    kinds |= {"weights": (list,), "baseline": (str,), "prompts": (list, dict), "group": (str,)}
    if not isinstance(entry, dict) or not entry.get("name") or not entry.get("images"):
        raise ValueError(f"{where} has no name or no images, expected an object with both.")
    for key, value in entry.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            raise ValueError(
                f"{where} ({entry['name']}) has {key} as {json.dumps(value)[:80]}, expected"
                f" {', '.join(kinds)}: names are texts, references files, weights numbers."
            )
    items: dict[str, tuple[type, ...]] = {"references": (str,), "weights": (int, float)}
    for key, kind in items.items():
        if not all(isinstance(x, kind) and not isinstance(x, bool) for x in entry.get(key, [])):
            raise ValueError(f"{where} ({entry['name']}) has {key} {entry[key]}, expected texts or numbers.")
    images = entry["images"]
    if isinstance(images, str):
        images = pictures_in(path.parent / images)
    else:
        images = [path.parent / str(name) for name in images]
    item = Set(entry["name"], images, [path.parent / name for name in entry.get("references", [])])
    item.baseline, item.group = entry.get("baseline"), entry.get("group", "")
    item.weights = [float(w) for w in entry["weights"]] if "weights" in entry else None
    item.prompts = paired(images, entry["prompts"], item.name) if "prompts" in entry else None
    return item
