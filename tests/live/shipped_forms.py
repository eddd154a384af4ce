"""Every form of the workflows that the repository has shipped, for the canvas and for the API.

``python -m tests.live.shipped_forms`` adds the forms that are shipped now and are not in the file yet.
"""

import base64
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np

from tools.derive.titles import name_of

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("shipped_forms.json.xz")
FOLDERS = {"api": "workflows/api", "canvas": "workflows", "blueprint": "subgraphs"}
SIDE = 8  # of the small pictures


def shipped() -> list[dict[str, Any]]:
    """``kind``: of FOLDERS; ``name``: of the API file or the blueprint, without its ending; ``form``: what it
    holds; of some API forms ``pictures``: what their demo twins drew in two steps at version 0.1.0, small.
    """
    return json.loads(lzma.decompress(FILE.read_bytes()))


def current() -> list[dict[str, Any]]:
    """The forms that are shipped now."""
    return [
        {"kind": kind, "name": name_of(path.stem), "form": json.loads(path.read_text(encoding="utf-8"))}
        for kind, folder in FOLDERS.items()
        for path in sorted((ROOT / folder).glob("*.json"))
    ]


def has(forms: list[dict[str, Any]], one: dict[str, Any]) -> bool:
    return any(all(form[key] == one[key] for key in ("kind", "name", "form")) for form in forms)


def bare(prompt: dict[str, Any]) -> dict[str, Any]:
    """What the host runs of an API workflow. The page writes a switch of before in words."""
    words = {"on": True, "off": False}

    def value_of(name: str, value: Any) -> Any:
        return words.get(value, value) if name == "share_group_norm" and isinstance(value, str) else value

    return {
        key: {
            "class_type": node["class_type"],
            "inputs": {name: value_of(name, value) for name, value in node["inputs"].items()},
        }
        for key, node in prompt.items()
    }


def shape(prompt: dict[str, Any]) -> str:
    """Equal for workflows that differ in their texts alone."""

    def simplify(value: Any) -> Any:
        text = isinstance(value, str) and (not value or " " in value or "\n" in value)
        return "text" if text else value

    return json.dumps(
        [
            (key, node["class_type"], {name: simplify(value) for name, value in node["inputs"].items()})
            for key, node in sorted(prompt.items())
        ],
        sort_keys=True,
    )


def small(picture: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 3) means of a picture (H, W, 3) in 0..1, as levels of 8 bits."""
    height, width = (side // SIDE for side in picture.shape[:2])
    parts = picture[: height * SIDE, : width * SIDE].reshape(SIDE, height, SIDE, width, 3)
    return np.rint(parts.mean((1, 3)) * 255).astype(np.uint8)


def written(pictures: list[np.ndarray]) -> list[str]:
    return [base64.b64encode(small(picture).tobytes()).decode() for picture in pictures]


def read(pictures: list[str]) -> list[np.ndarray]:
    return [
        np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIDE, SIDE, 3).astype(float)
        for text in pictures
    ]


def save(forms: list[dict[str, Any]]) -> None:
    FILE.write_bytes(lzma.compress(json.dumps(forms).encode(), preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    forms = shipped() if FILE.exists() else []
    new = [form for form in current() if not has(forms, form)]
    save(forms + new)
    print(f"{FILE.name}: {len(new)} added, {len(forms) + len(new)} in all")


if __name__ == "__main__":
    main()
