"""``nox -s pictures``: one labeled sheet per knob of the nodes, drawn on the demo model.

Every row is one setting: the same prompts from the same noise. One set of four is a single draw, so
``values.md`` has the means of several sets beside the values of the sheet's.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from demo.pictures import caption, draw
from demo.styles import HELD_OUT
from demo.training.classifier import classify, load_classifier
from demo.training.descriptor import consistency, similarity
from demo.training.hosting import import_host
from demo.training.measure import SAMPLER, load_pack

from .studio import to_image

OBJECTS = ("cat", "house", "boat", "flower")
REFERENCES = ("star", "moon")
STYLES = ("lava", "arctic", "plum", "rust", "orchard")
CELL, LEFT, TOP, GAP = 96, 184, 46, 4  # pixels of a sheet
ABOUT = """# Measured values of the knobs

Made by `python -m nox -s pictures` on the demo model: a cat, a house, a boat and a flower, 128 x 128, ddim,
simple, 30 steps, CFG 5. Inputs that a row does not name are at their defaults, and group norms are not
shared.

- Consistency: mean cosine of the style descriptor (demo/training/descriptor.py) over the pairs of a set.
- Similarity: mean cosine to the reference, or to A / to B.
- A's part, under masks: how near pixels are to those drawn with A alone (1) or B alone (0), in the left / in
  the right half.
- Objects: how many of the four a classifier recognizes.

First comes the set on the sheet: seed {seed}, styles lava (A) and arctic (B). Then come the means of
{sets} sets from that seed upward. Their references have in turn the five styles that the model was never
trained on. One set is a single draw: read the means.
"""


@dataclass(frozen=True)
class Row:
    """One setting: its label, the model to draw with, and the references to show and to compare with."""

    label: str
    model: object
    references: tuple[np.ndarray, ...]


class Drawing:
    """Prompts on one seed, and the pack's nodes at their defaults."""

    def __init__(self, pack, seed: int, objects: Sequence[str]):
        self.nodes, self.seed, self.objects = pack.nodes, seed, objects
        self.base, self.clip, self.vae, self.clip_vision = self.run("demo_model.LoadDemoModel")[:4]
        texts = "\n".join(map(caption, objects))
        self.positive = self.run("prompts.PromptSet", clip=self.clip, prompts=texts)[0]

    def run(self, node: str, **inputs) -> tuple:
        """One of the pack's nodes, as module.Class; inputs that are not given are at their defaults."""
        module, name = node.split(".")
        node_class = getattr(getattr(self.nodes, module), name)
        known = {i.id: i.default for i in node_class.define_schema().inputs if hasattr(i, "default")}
        known = {name: value for name, value in known.items() if value is not None}
        return node_class.execute(**{**known, **inputs}).result

    def encode(self, text: str):
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def inverted(self, node: str, picture: np.ndarray, shown: str):
        """A reference by DDIMInvert or NoiseReference of a picture of an object."""
        inputs = {"positive": self.encode(caption(shown)), "negative": self.encode("")}
        latent = {"samples": self.vae.encode(torch.from_numpy(picture)[None].float())}
        return self.run(f"references.{node}", model=self.base, latent=latent, **inputs)[0]

    def adapted(self, image: object, weights: str = "", **inputs):
        """A model with the demo's adapter, or another; ``weights``: of blocks, in place of the preset."""
        if weights:
            sliders = {"output_1": 0.0, "layers": weights}
            inputs["block_weights"] = self.run("ip_adapter.BlockWeights", **sliders)[0]
        inputs.setdefault("adapter", self.run("adapter_loaders.LoadIPAdapter", file="demo IP-Adapter")[0])
        inputs |= {"model": self.base, "image": image, "clip_vision": self.clip_vision}
        return self.run("ip_adapter.StyleBlockIPAdapter", **inputs)[0]

    def pictures(self, model) -> list[np.ndarray]:
        """The prompts, by the host's own KSampler."""
        import nodes

        inputs = {"positive": self.positive, "negative": self.encode(""), **SAMPLER}
        latent = {"samples": torch.zeros(len(self.objects), 4, 16, 16)}
        return self.decode(nodes.common_ksampler(model, self.seed, latent=latent, **inputs)[0])

    def decode(self, latent: dict) -> list[np.ndarray]:
        return list(self.vae.decode(latent["samples"]).clamp(0, 1).cpu().numpy())


class Set(Drawing):
    """Four prompts, and two drawn references A and B."""

    def __init__(self, pack, seed: int, index: int):
        super().__init__(pack, seed, OBJECTS)
        self.drawn = tuple(
            draw(obj, HELD_OUT[STYLES[(index + i) % len(STYLES)]], np.random.default_rng(i + 1))
            for i, obj in enumerate(REFERENCES)
        )
        self.a, self.b = (self.reference("DDIMInvert", i, self.drawn[i]) for i in range(2))

    def reference(self, node: str, i: int, picture: np.ndarray):
        return self.inverted(node, picture, REFERENCES[i])

    def weigh(self, reference, **inputs):
        return self.run("references.WeighReference", reference=reference, **inputs)[0]

    def share(self, **inputs):
        """A model that shares attention with reference A, and no group norms, if nothing else is said."""
        inputs = {"model": self.base, "reference": self.a, "share_group_norm": "off", **inputs}
        return self.run("style_aligned.SharedAttention", **inputs)[0]

    def row(self, label: str, **inputs) -> Row:
        return Row(label, self.share(**inputs), self.drawn[:1])

    def adain(self, **inputs):
        return self.run("style_aligned.AdaINQueries", model=self.base, **inputs)[0]


def numbers(name: str, *values, **others) -> Callable[[Set], list[Row]]:
    """The rows of a knob that is one input of SharedAttention Patch."""

    written = {"0.6931": "ln 2", "False": "off", "True": "on"}

    def rows(s: Set) -> list[Row]:
        return [s.row(f"{name}\n{written.get(str(v), v)}", **{name: v}, **others) for v in values]

    return rows


def adain(s: Set) -> list[Row]:
    none, both, everything = s.adain(queries=False, keys=False), s.adain(), s.adain(values=True)
    rows = [s.row("shared attention,\nno AdaIN", model=none), s.row("AdaIN of\nqueries, keys", model=both)]
    rows.append(s.row("AdaIN of\nqueries, keys, values", model=everything))
    return [*rows, s.row("AdaIN of queries,\nkeys, nothing shared", model=both, strength=0.0)]


def share(s: Set) -> list[Row]:
    kinds = ("reference", "all pictures")
    rows = [Row(f"share\n{kind}", s.share(share=kind, reference=None), ()) for kind in kinds]
    return [Row("unaligned", s.base, ()), *rows]


def references(s: Set) -> list[Row]:
    rows = []
    for w in (1.0, 0.75, 0.5, 0.25, 0.0):
        both = s.weigh(s.a, weight=w, others=s.weigh(s.b, weight=1 - w))
        rows.append(Row(f"weight of A {w:g}\nweight of B {1 - w:g}", s.share(reference=both), s.drawn))
    return rows


def masks(s: Set) -> list[Row]:
    left = (torch.arange(128) < 64).float().expand(1, 128, 128)
    rows = [Row("A alone", s.share(), s.drawn), Row("B alone", s.share(reference=s.b), s.drawn)]
    for label, mask in (("A left, B right", left), ("B left, A right", 1 - left)):
        both = s.weigh(s.a, mask=mask, others=s.weigh(s.b, mask=1 - mask))
        rows.append(Row(label, s.share(reference=both), s.drawn))
    return rows


def ways(s: Set) -> list[Row]:
    inputs = {"positive": s.encode(caption(REFERENCES[0])), "negative": s.encode(""), "seed": s.seed}
    inputs |= {"model": s.base, "latent_image": {"samples": torch.zeros(1, 4, 16, 16)}, **SAMPLER}
    recorded, latent = s.run("references.RecordReference", **inputs)
    own = s.decode(latent)[0]
    rows = [Row("KSampler\n(Record Reference)", s.share(reference=recorded), (own,))]
    for which, picture in (("the same", own), ("a drawn", s.drawn[0])):
        for way, node in (("DDIM Invert", "DDIMInvert"), ("Noise Reference", "NoiseReference")):
            model = s.share(reference=s.reference(node, 0, picture))
            rows.append(Row(f"{way}\nof {which} picture", model, (picture,)))
    return rows


KNOBS: dict[str, Callable[[Set], list[Row]]] = {
    "strength": numbers("strength", 0.0, 0.25, 0.5, 0.75, 1.0),
    "preset": lambda s: [
        Row("unaligned", s.base, s.drawn[:1]), *numbers("preset", "none", "normal", "famous")(s)
    ],
    "score_shift": numbers("score_shift", -2.0, 0.0, 0.6931, 2.0, preset="custom"),
    "score_scale": numbers("score_scale", 0.25, 0.5, 1.0, 1.5, preset="custom", score_shift=0.0),
    "adain": adain,
    "share": share,
    "only_self_level": numbers("only_self_level", 0.0, 0.25, 0.5, 0.75, 1.0),
    "blocks": numbers("blocks", "all", "input", "middle, output 0-2", "output", "output 5"),
    "window": lambda s: [
        s.row("whole schedule"), *numbers("start_percent", 0.5)(s), *numbers("end_percent", 0.5)(s)
    ],
    "share_group_norm": numbers("share_group_norm", False, True),
    "references": references,
    "masks": masks,
    "ways": ways,
    "offset": lambda s: [s.row(f"offset\n{x}", reference=s.weigh(s.a, offset=x)) for x in (0, 2, 5, 20, 40)],
}  # fmt: skip


def measure(rows: list[Row], drawn: list[list[np.ndarray]], halves: bool, judge) -> list[dict]:
    """What is measured, by row and name. With ``halves`` the first rows are those of A and of B alone."""
    values = []
    for row, pictures in zip(rows, drawn, strict=True):
        measured = {"consistency": [consistency(pictures)]}
        if halves:
            far = [np.abs(np.subtract(pictures, alone)).mean((0, 1, 3)) for alone in drawn[:2]]
            a, b = (np.split(distance, 2) for distance in far)  # by column of the picture
            measured["A's part"] = [float(y.sum() / (x + y).sum()) for x, y in zip(a, b, strict=True)]
        elif row.references:
            measured["similarity"] = [similarity(pictures, reference) for reference in row.references]
        classes = classify(judge, pictures)
        measured["objects"] = [float(sum(a == b for a, b in zip(classes, OBJECTS, strict=True)))]
        values.append(measured)
    return values


def told(values) -> str:
    return " / ".join(f"{v:.2f}" for v in values)


def sheet(title: str, rows: list[tuple[Row, list[np.ndarray], dict]]) -> Image.Image:
    """A title, a line of heads, and per row its label, its references and its pictures."""
    heads = {0: [], 1: ["reference"], 2: ["A", "B"]}[len(rows[0][0].references)] + [*map(caption, OBJECTS)]
    size = (LEFT + (CELL + GAP) * len(heads), TOP + (CELL + GAP) * len(rows))
    canvas = Image.new("RGB", size, "white")
    pen, font, small = ImageDraw.Draw(canvas), ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((8, 4), title, "black", font)
    for i, head in enumerate(heads):
        pen.text((LEFT + i * (CELL + GAP), TOP - 19), head, "black", small)
    for j, (row, pictures, values) in enumerate(rows):
        y = TOP + j * (CELL + GAP)
        pen.multiline_text((8, y + 6), row.label, "black", font)
        lines = [f"{name} {told(value)}" for name, value in values.items() if name != "objects"]
        pen.multiline_text((8, y + 56), "\n".join(lines), "black", small)
        for i, cell in enumerate([*row.references, *pictures]):
            image = to_image(cell).resize((CELL, CELL), Image.Resampling.LANCZOS)
            canvas.paste(image, (LEFT + i * (CELL + GAP), y))
    palette = canvas.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)
    palette.putpalette([255 if c > 247 else c for c in palette.getpalette()])  # white stays white
    return canvas.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def table(knob: str, labels: list[str], values: list[list[dict]]) -> list[str]:
    """``values`` by set, row and name."""
    names = list(values[0][0])
    heads = ["setting", *names, *(f"{name}, mean" for name in names)]
    lines = [f"## {knob}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for j, label in enumerate(labels):
        means = [np.mean([one[j][name] for one in values], axis=0) for name in names]
        cells = [" ".join(label.split()), *map(told, [*values[0][j].values(), *means])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write(name: str, about: str, knobs: dict[str, Callable[[Set], list[Row]]], options) -> None:
    """A sheet for each knob, and the table of values ``name``."""
    judge = load_classifier()
    sets = [Set(options.pack, options.seed + i, i) for i in range(options.sets)]
    lines = [about.format(seed=options.seed, sets=options.sets)]
    for knob, make in knobs.items():
        values, labels = [], []
        for i, one in enumerate(sets):
            rows = make(one)
            drawn = [one.pictures(row.model) for row in rows]
            values.append(measure(rows, drawn, knob == "masks", judge))
            if i == 0:
                labels = [row.label for row in rows]
                filled = list(zip(rows, drawn, values[0], strict=True))
                sheet(f"{knob}, seed {one.seed}", filled).save(options.output / f"{knob}.png", optimize=True)
        lines += table(knob, labels, values)
        print(f"{knob} done", flush=True)
    (options.output / name).write_text("\n".join(lines).rstrip() + "\n")
    print("\n".join(lines))


@torch.inference_mode()
def main() -> None:
    from . import adapter_knobs

    parser = argparse.ArgumentParser(prog="nox -s pictures --", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/knobs"))
    parser.add_argument("--seed", type=int, default=3, help="of the sheets")
    parser.add_argument("--sets", type=int, default=5, help="in the means; 1 is a fifth of the time")
    parser.add_argument("--only", choices=("style_aligned", "instantstyle"), help="one of the two methods")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    import_host()
    options.pack = load_pack()
    if options.only != "instantstyle":
        write("values.md", ABOUT, KNOBS, options)
    if options.only != "style_aligned":
        write("instantstyle.md", adapter_knobs.ABOUT, adapter_knobs.KNOBS, options)


if __name__ == "__main__":
    main()
