"""Figures that a command measured and docs/measured.md shows: kept as JSON, and from it a table in the page.

``python -m benchmarks.NAME --docs`` writes both. A test compares them, so that none is changed by hand.
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "measured.md"
FOLDER = Path(__file__).parent / "figures"
END = "<!-- end -->"


def mark(name: str) -> str:
    """The line before a table in the page; the table goes on to ``END``."""
    return f"<!-- figures of {name} -->"


def table(rows: list[dict]) -> str:
    """Markdown of rows, whose columns are all that any row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def cell(value) -> str:
        if isinstance(value, bool):
            return "yes" if value else "NO"
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [columns, ["---"] * len(columns), *([cell(row.get(c)) for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def placed(page: str, name: str, rows: list[dict]) -> str:
    """The page with the table of ``rows`` at its mark. Raises ValueError for a page without the mark."""
    before, found, rest = page.partition(mark(name))
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{PAGE.name} lacks the lines {mark(name)} and {END}")
    return f"{before}{found}\n\n{table(rows)}\n\n{end}{after}"


def keep(name: str, rows: list[dict]) -> None:
    page = placed(PAGE.read_text(encoding="utf-8"), name, rows)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page, encoding="utf-8")
