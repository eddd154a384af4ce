"""Every form of the workflows that the repository has shipped, for the canvas and for the API.

``python -m tests.live.shipped_forms`` adds the forms that are shipped now and are not in the file yet.
"""

import json
import lzma
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("shipped_forms.json.xz")
FOLDERS = {"api": "workflows/api", "canvas": "workflows", "blueprint": "subgraphs"}


def shipped() -> list[dict[str, Any]]:
    """``kind``: of FOLDERS; ``name``: the file's, without its ending; ``form``: what it holds."""
    return json.loads(lzma.decompress(FILE.read_bytes()))


def current() -> list[dict[str, Any]]:
    """The forms that are shipped now."""
    return [
        {"kind": kind, "name": path.stem, "form": json.loads(path.read_text(encoding="utf-8"))}
        for kind, folder in FOLDERS.items()
        for path in sorted((ROOT / folder).glob("*.json"))
    ]


def save(forms: list[dict[str, Any]]) -> None:
    FILE.write_bytes(lzma.compress(json.dumps(forms).encode(), preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    forms = shipped() if FILE.exists() else []
    new = [form for form in current() if form not in forms]
    save(forms + new)
    print(f"{FILE.name}: {len(new)} added, {len(forms) + len(new)} in all")


if __name__ == "__main__":
    main()
