"""The house in numbers: rooms and the arrows between them, words and long sentences.

``python -m tools.house``. A room is a folder, or a file beside the folders; an arrow leads from a room to one
that it imports.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "web" / "docs").glob("*.md"),
        *(ROOT / "demo").glob("*.md"),
    ]
)
LONG = 35  # words of a sentence that is read twice
Parts = tuple[str, ...]


def imports_within(folder: Path) -> Iterator[tuple[Parts, Parts]]:
    """(importing file, what it imports) for all imports within a folder, both as parts of the path below."""
    own = folder.relative_to(ROOT).parts
    for file in folder.rglob("*.py"):
        package = file.relative_to(ROOT).parts[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            start = package[: len(package) - node.level + 1] if node.level else ()
            parts = (*start, *(node.module.split(".") if node.module else ()))
            for name in node.names:
                full = (*parts, name.name)
                if full[: len(own)] == own:
                    yield file.relative_to(folder).with_suffix("").parts, full[len(own) :]


def rooms_and_arrows(folder: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """The rooms of a package, and (importing room, imported room) between two of them."""
    rooms = {p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    rooms -= {"__init__"}
    between = {(a[0], b[0]) for a, b in imports_within(folder)}
    return rooms, {(a, b) for a, b in between if a != b and {a, b} <= rooms}


def sentences(page: Path) -> list[str]:
    """Sentences, items and headings of a page, without its tables, code and addresses."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"^\|.*$", "", text, flags=re.M)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    ends = r"(?<=[.!?:])\s|\n\s*\n|\n(?=\s*(?:[-*#]|\d+\.) )"
    return [part.strip() for part in re.split(ends, text) if re.search(r"\w", part)]


def main() -> None:
    for name in ("zsamb_core", "nodes/_host"):
        rooms, arrows = rooms_and_arrows(ROOT / name)
        print(f"{name}: {len(rooms)} rooms, {len(arrows)} arrows between them")
    said = [sentence for page in PAGES for sentence in sentences(page)]
    words = sum(len(page.read_text(encoding="utf-8").split()) for page in PAGES)
    longest = max(len(sentence.split()) for sentence in said)
    over = sum(len(sentence.split()) > LONG for sentence in said)
    print(f"{len(PAGES)} pages: {words} words, {len(said)} sentences, {over} over {LONG} words ({longest})")


if __name__ == "__main__":
    main()
