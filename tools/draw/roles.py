"""What the blocks of the demo UNet carry: ``nox -s roles``.

Sets of four prompts are drawn with the demo's own IP-Adapter in one block, in a preset's blocks, or in none,
with the content subtracted by words, and with self-attention shared in some blocks. The style pictures are in
the held-out styles. Measured are, as means and standard errors over the sets: similarity of the style
descriptor to the style picture, and of its palette and texture parts; objects recognized, of four; and how
probable a classifier finds the style picture's object in the set, which is what leaks.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from demo.objects import OBJECTS
from demo.pictures import caption, draw
from demo.styles import HELD_OUT
from demo.training.classifier import classify, load_classifier, probabilities
from demo.training.descriptor import PARTS, similarity
from demo.training.hosting import import_host
from demo.training.measure import load_pack
from zsamb_core.layers import SDXL_BLOCKS, block_name

from .knobs import Drawing

PRESETS = ("style", "layout", "style and layout", "strong style", "all")
SHARED = ("output 0", "output 1", "output 2", "output 3-5", "all")
Rows = dict[str, Callable[[], object]]  # a label, and what makes the model to draw with


class Set(Drawing):
    """Four prompts, a fifth object in a held-out style as style picture, and an object in none of them; all
    from ``index`` alone.
    """

    def __init__(self, pack, index: int):
        rng = np.random.default_rng(1000 + index)
        *objects, self.shown, self.absent = rng.choice(list(OBJECTS), 6, replace=False).tolist()
        super().__init__(pack, index, objects)
        style = list(HELD_OUT)[index % len(HELD_OUT)]
        self.picture = draw(self.shown, HELD_OUT[style], np.random.default_rng(1000 + index))
        self.image = torch.from_numpy(self.picture)[None].float()

    def less(self, word: str, scale: float):
        """With the adapter in all blocks, and "a {word}" subtracted."""
        encoder = {"clip_vision": self.clip_vision, "image": self.image}
        embeds = self.run("style_embeds.EncodeStyleImages", **encoder)[0]
        content = {"embeds": embeds, "clip": self.clip, "content": caption(word), "scale": scale}
        return self.adapted(self.run("style_embeds.SubtractContent", **content)[0], preset="all")

    def shared(self, blocks: str):
        """With self-attention shared with the inverted style picture."""
        reference = self.inverted("DDIMInvert", self.picture, self.shown)
        inputs = {"model": self.base, "reference": reference, "blocks": blocks}
        return self.run("style_aligned.SharedAttention", **inputs)[0]


def by_block(s: Set) -> Rows:
    blocks = [block_name(block) for block in SDXL_BLOCKS]
    rows: Rows = {"no adapter": lambda: s.base}
    rows |= {block: lambda block=block: s.adapted(s.image, f"{block} = 1") for block in blocks}
    return rows | {f"preset {p}": lambda p=p: s.adapted(s.image, preset=p) for p in PRESETS}


def by_words(s: Set) -> Rows:
    rows: Rows = {"preset all": lambda: s.adapted(s.image, preset="all")}
    for scale in (0.5, 1.0):
        rows[f"its object, {scale:g}"] = lambda scale=scale: s.less(s.shown, scale)
    return {**rows, "an object that is not there, 1": lambda: s.less(s.absent, 1.0)}


def by_sharing(s: Set) -> Rows:
    return {"unaligned": lambda: s.base, **{b: lambda b=b: s.shared(b) for b in SHARED}}


TABLES: dict[str, Callable[[Set], Rows]] = {
    "adapter": by_block, "subtraction": by_words, "sharing": by_sharing
}  # fmt: skip


def measured(s: Set, pictures: list[np.ndarray], judge) -> list[float]:
    """A value for each of `HEADS`."""
    leak = probabilities(judge, pictures)[:, list(OBJECTS).index(s.shown)].mean()
    right = sum(a == b for a, b in zip(classify(judge, pictures), s.objects, strict=True))
    return [*(similarity(pictures, s.picture, part) for part in PARTS), float(right), float(leak)]


HEADS = ("similarity", "palette", "texture", "objects", "leak")


def table(name: str, values: dict[str, list[list[float]]]) -> list[str]:
    """``values`` by row, set and head."""
    lines = [f"## {name}", "", f"| | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 1) + "|"]
    for label, rows in values.items():
        means, sets = np.mean(rows, 0), len(rows)
        errors = np.std(rows, 0, ddof=1) / sets**0.5 if sets > 1 else np.zeros(len(HEADS))
        cells = [f"{m:.3f} +- {e:.3f}" for m, e in zip(means, errors, strict=True)]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, ""]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s roles --", description=__doc__)
    parser.add_argument("--sets", type=int, default=24)
    parser.add_argument("--only", choices=list(TABLES), help="one of the tables")
    parser.add_argument("--output", type=Path, default=Path("output/roles"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    import_host()
    pack, judge = load_pack(), load_classifier()
    lines: list[str] = []
    for name in [options.only] if options.only else list(TABLES):
        values: dict[str, list[list[float]]] = {}
        for index in range(options.sets):
            one = Set(pack, index)
            for label, make in TABLES[name](one).items():
                values.setdefault(label, []).append(measured(one, one.pictures(make()), judge))
            print(f"{name}: set {index + 1} of {options.sets}", flush=True)
            (options.output / f"{name}.json").write_text(json.dumps(values))
        lines += table(name, values)
    (options.output / "roles.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
