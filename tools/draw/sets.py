"""``nox -s demo -- --sets N``: N sets of four prompts, each drawn aligned and unaligned, as a table."""

import json
from pathlib import Path

import numpy as np

from demo.objects import OBJECTS
from demo.pictures import caption
from demo.styles import HELD_OUT
from demo.training.classifier import classify, load_classifier
from demo.training.descriptor import consistency, similarity

from .studio import MODES, Studio, contact_sheet, drawn_reference, to_array

KINDS = {"unaligned": False, "aligned": True}
SHOWN = 6  # sets on the sheet


def draw_set(studio: Studio, judge, index: int, seed: int) -> tuple[dict, list]:
    """One set: its measures, and its rows for the sheet. Prompts and reference come from ``index`` alone."""
    rng = np.random.default_rng(1000 + index)
    *objects, shown = rng.choice(list(OBJECTS), 5, replace=False).tolist()
    style = list(HELD_OUT)[index % len(HELD_OUT)]
    reference = drawn_reference(style, shown, 1000 + index)
    entry: dict = {"objects": objects, "reference": f"{shown} in {style}", "seed": seed}
    entry |= {"consistency": {}, "similarity": {}, "right": {}}
    rows = []
    prompts = [caption(o) for o in objects]
    for mode in MODES:
        for kind, aligned in KINDS.items():
            name = f"{mode}, {kind}"
            pictures = studio.draw(mode, aligned, prompts, seed, reference, caption(shown), show=False)
            entry["consistency"][name] = consistency(pictures)
            entry["similarity"][name] = similarity(pictures, to_array(reference))
            classes = classify(judge, pictures)
            entry["right"][name] = sum(a == b for a, b in zip(classes, objects, strict=True))
            label = f"{mode}\n{kind}\n{entry['consistency'][name]:.2f}"
            rows.append((label, reference if mode == "reference" else None, pictures))
    return entry, rows


def table(sets: list[dict]) -> list[str]:
    """Means, and in how many sets the aligned value is the higher one."""
    lines = [f"{'':34}{'unaligned':>10}{'aligned':>10}{'sets that rise':>18}"]

    def line(label: str, measure: str, mode: str) -> None:
        before, after = ([s[measure][f"{mode}, {kind}"] for s in sets] for kind in KINDS)
        rise = sum(b > a for a, b in zip(before, after, strict=True))
        lines.append(f"{label:34}{np.mean(before):10.3f}{np.mean(after):10.3f}{f'{rise} of {len(sets)}':>18}")

    line("style consistency, reference", "consistency", "reference")
    line("style consistency, prompts only", "consistency", "prompts")
    line("similarity to the reference", "similarity", "reference")
    for mode in MODES:
        share = [sum(s["right"][f"{mode}, {kind}"] for s in sets) / (4 * len(sets)) for kind in KINDS]
        lines.append(f"{f'object accuracy, {mode}':34}{share[0]:10.3f}{share[1]:10.3f}")
    return lines


def measure_sets(studio: Studio, count: int, seed: int, out: Path) -> None:
    """Writes ``sets.png``, ``summary.json`` and ``summary.txt`` to ``out``."""
    judge, sets, rows = load_classifier(), [], []
    for i in range(count):
        entry, drawn = draw_set(studio, judge, i, seed + i)
        sets.append(entry)
        rows += drawn if i < SHOWN else []
        scores = ", ".join(f"{name} {value:.2f}" for name, value in entry["consistency"].items())
        print(f"set {i + 1} of {count}: {scores}", flush=True)
    contact_sheet(rows, ["first", "second", "third", "fourth"], 128).save(out / "sets.png")
    lines = [f"{count} sets of 4 prompts on the demo model, seeds {seed} to {seed + count - 1}", *table(sets)]
    (out / "summary.json").write_text(json.dumps(sets, indent=1))
    (out / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
