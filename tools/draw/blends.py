"""``nox -s demo -- --blends N``: N sets in the style of two references, as the weight moves from one to the
other.
"""

import json
from pathlib import Path

import numpy as np

from demo.objects import OBJECTS
from demo.pictures import caption
from demo.styles import HELD_OUT
from demo.training.classifier import classify, load_classifier
from demo.training.descriptor import consistency, similarity

from .studio import Studio, contact_sheet, drawn_reference, to_array

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN = 3  # sets on the sheet


def draw_blends(studio: Studio, judge, index: int, seed: int) -> tuple[dict, list]:
    """One set at every weight: its measures, and its rows for the sheet. Prompts and references come from
    ``index`` alone.
    """
    rng = np.random.default_rng(2000 + index)
    *objects, shown_a, shown_b = rng.choice(list(OBJECTS), 6, replace=False).tolist()
    style_a, style_b = rng.choice(list(HELD_OUT), 2, replace=False).tolist()
    pictures = [drawn_reference(s, o, 2000 + index) for s, o in ((style_a, shown_a), (style_b, shown_b))]
    references = list(zip(pictures, (caption(shown_a), caption(shown_b)), strict=True))
    entry: dict = {"objects": objects, "a": style_a, "b": style_b, "seed": seed}
    entry |= {"similarity_a": [], "similarity_b": [], "consistency": [], "right": []}
    rows = []
    for weight in WEIGHTS:
        drawn = studio.blend([caption(o) for o in objects], seed, references, weight)
        entry["similarity_a"].append(similarity(drawn, to_array(pictures[0])))
        entry["similarity_b"].append(similarity(drawn, to_array(pictures[1])))
        entry["consistency"].append(consistency(drawn))
        entry["right"].append(sum(a == b for a, b in zip(classify(judge, drawn), objects, strict=True)))
        shown = pictures[0] if weight == 1 else pictures[1] if weight == 0 else None
        rows.append((f"weight of A {weight:.2f}\nof B {1 - weight:.2f}", shown, drawn))
    return entry, rows


def table(sets: list[dict]) -> list[str]:
    """Means over the sets at each weight."""
    lines = [f"{'weight of reference A':24}" + "".join(f"{w:8.2f}" for w in WEIGHTS)]
    for label, key, unit in (
        ("similarity to A", "similarity_a", 1),
        ("similarity to B", "similarity_b", 1),
        ("style consistency", "consistency", 1),
        ("object accuracy", "right", 4),
    ):
        means = np.mean([s[key] for s in sets], 0) / unit
        lines.append(f"{label:24}" + "".join(f"{m:8.3f}" for m in means))
    return lines


def measure_blends(studio: Studio, count: int, seed: int, out: Path) -> None:
    """Writes ``blends.png``, ``blends.json`` and ``blends.txt`` to ``out``."""
    judge, sets, rows = load_classifier(), [], []
    for i in range(count):
        entry, drawn = draw_blends(studio, judge, i, seed + i)
        sets.append(entry)
        rows += drawn if i < SHOWN else []
        scores = ", ".join(
            f"{a:.2f}/{b:.2f}" for a, b in zip(entry["similarity_a"], entry["similarity_b"], strict=True)
        )
        print(f"set {i + 1} of {count}, similarity to A/B: {scores}", flush=True)
    contact_sheet(rows, ["first", "second", "third", "fourth"], 128).save(out / "blends.png")
    lines = [f"{count} sets of 4 prompts, two references, seeds {seed} to {seed + count - 1}", *table(sets)]
    (out / "blends.json").write_text(json.dumps(sets, indent=1))
    (out / "blends.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
