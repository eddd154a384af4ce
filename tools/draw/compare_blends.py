"""Ways to blend two references, side by side on the demo model: ``nox -s blends``.

Sets of four prompts in the style of two pictures that the model was never trained on, at five weight pairs,
by every way: blends of the latents, inverted with both captions; and each picture inverted with its own
caption, blended in attention. The ends are one reference alone, the same for all ways; each set is drawn
without references too. ``--draw`` draws (what is there is kept, so it can be stopped), ``--score`` scores:
DINO similarity to each reference, what it gains over the set without references, how evenly the gains follow
the weight, and CLIP's cosine with the prompts.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from demo.objects import OBJECTS
from demo.pictures import caption, draw
from demo.styles import HELD_OUT
from demo.training.hosting import import_host
from demo.training.measure import load_pack

from .studio import contact_sheet, to_image

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the first reference
SHOWN = (0, 1, 5)  # sets on the sheet
WAYS = ("linear", "slerp", "karcher", "attention")
INVERSION = {"steps": 50, "cfg": 2.0, "refinements": 0, "scheduler": "simple"}
SAMPLING = {"steps": 30, "cfg": 5.0, "sampler_name": "ddim", "scheduler": "simple"}


class Drawing:
    """The demo model, and the nodes that a graph would have."""

    def __init__(self) -> None:
        self.nodes = load_pack().nodes
        self.model, self.clip, self.vae = self.nodes.demo_model.LoadDemoModel.execute().result[:3]

    def encode(self, text: str):
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def invert(self, latent: torch.Tensor, prompt: str):
        node = self.nodes.references.DDIMInvert
        return node.execute(
            self.model, {"samples": latent}, self.encode(prompt), self.encode(""), **INVERSION
        ).result[0]

    def blend(self, references: list, weights: tuple[float, float], method: str):
        """(LATENT, STYLE_REFERENCE) of Multi-Ref Blend."""
        named = {f"reference{i}": value for i, value in enumerate(references)}
        text = ", ".join(str(w) for w in weights)
        return self.nodes.blend.MultiRefBlend.execute(text, method, "crop", named).result[:2]

    def pictures(self, prompts: list[str], seed: int, reference=None) -> np.ndarray:
        """(4, 128, 128, 3) uint8, in the style of ``reference`` where there is one."""
        from nodes import common_ksampler  # the host's

        model = self.model
        if reference is not None:
            model = self.nodes.style_aligned.SharedAttention.execute(
                model, 1.0, "normal", 0.6931, 1.0, "reference", "all", 0.0, 0.0, 1.0, False, reference
            ).result[0]
        positive = self.nodes.prompts.PromptSet.execute(self.clip, "\n".join(prompts), "").result[0]
        empty = {"samples": torch.zeros(len(prompts), 4, 16, 16)}
        (out,) = common_ksampler(
            model, seed, positive=positive, negative=self.encode(""), latent=empty, **SAMPLING
        )
        return (self.vae.decode(out["samples"]).clamp(0, 1) * 255).round().byte().numpy()


def job(index: int) -> dict:
    """A set's objects, references and seed, from ``index`` alone."""
    rng = np.random.default_rng(2000 + index)
    *objects, a, b = rng.choice(list(OBJECTS), 6, replace=False).tolist()
    styles = rng.choice(list(HELD_OUT), 2, replace=False).tolist()
    return {"objects": objects, "shown": [a, b], "styles": styles, "seed": 1 + index}


def references(index: int) -> np.ndarray:
    """(2, 128, 128, 3) in 0..1."""
    about = job(index)
    pairs = zip(about["shown"], about["styles"], strict=True)
    return np.stack([draw(o, HELD_OUT[s], np.random.default_rng(2000 + index)) for o, s in pairs])


@torch.inference_mode()
def draw_set(drawing: Drawing, index: int) -> dict[str, np.ndarray]:
    """Pictures by "way weight"; the ends and the set without references by "0.0", "1.0" and "none"."""
    about, shown = job(index), torch.from_numpy(references(index)).float()
    prompts, captions = [caption(o) for o in about["objects"]], [caption(o) for o in about["shown"]]
    latents = [drawing.vae.encode(picture[None]) for picture in shown]
    alone = [drawing.invert(z, text) for z, text in zip(latents, captions, strict=True)]
    pictures = {
        "none": drawing.pictures(prompts, about["seed"]),
        "1.0": drawing.pictures(prompts, about["seed"], alone[0]),
        "0.0": drawing.pictures(prompts, about["seed"], alone[1]),
    }
    for weight in WEIGHTS[1:-1]:
        for way in WAYS:
            weights = (weight, 1 - weight)
            if way == "attention":
                reference = drawing.blend(alone, weights, way)[1]
            else:
                blended = drawing.blend([{"samples": z} for z in latents], weights, way)[0]
                reference = drawing.invert(blended["samples"], ", ".join(captions))
            pictures[f"{way} {weight}"] = drawing.pictures(prompts, about["seed"], reference)
    return pictures


def draw_sets(count: int, out: Path) -> None:
    drawing = None
    for index in range(count):
        path = out / f"set_{index:03}.npz"
        if path.is_file():
            continue
        drawing = drawing or Drawing()
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **draw_set(drawing, index))
        unfinished.replace(path)
        print(f"set {index + 1} of {count}", flush=True)


def score_set(index: int, drawn, dino, clip) -> dict:
    """By way, lists over WEIGHTS: similarity to the first and the second reference, gains of both over the
    set without references, CLIP's mean; and how the difference of the gains follows the weight.
    """
    from zsamb_core.scores.judge import PUBLISHED
    from zsamb_core.scores.measures import correlation, cosines, similarities

    def embed(pictures) -> torch.Tensor:
        return dino.embed(dino.prepared([Image.fromarray(p) for p in pictures], PUBLISHED))

    marks = embed((references(index) * 255).round().astype(np.uint8))
    plain = similarities(embed(drawn["none"]), marks)
    texts = clip.embed_text([caption(o) for o in job(index)["objects"]])

    def clip_mean(pictures) -> float:
        images = clip.embed(clip.prepared([Image.fromarray(p) for p in pictures], PUBLISHED))
        return float(cosines(images, texts).diagonal().mean())

    report: dict = {
        "index": index,
        **job(index),
        "none": {"similarity": plain, "clip": clip_mean(drawn["none"])},
    }
    for way in WAYS:
        names = [str(w) if w in (0.0, 1.0) else f"{way} {w}" for w in WEIGHTS]
        likeness = [similarities(embed(drawn[name]), marks) for name in names]
        tilt = [(a - plain[0]) - (b - plain[1]) for a, b in likeness]
        report[way] = {
            "a": [a for a, _ in likeness],
            "b": [b for _, b in likeness],
            "weighted": [w * a + (1 - w) * b for w, (a, b) in zip(WEIGHTS, likeness, strict=True)],
            "lesser": [min(a - plain[0], b - plain[1]) for a, b in likeness],
            "correlation": correlation(tilt, WEIGHTS),
            "rises": sum(b > a for a, b in pairwise(tilt)),
            "clip": [clip_mean(drawn[name]) for name in names],
        }
    return report


def interval(values) -> str:
    """Mean and half of the 95 % interval of the mean, by the normal approximation."""
    x = np.asarray(values, float)
    return f"{x.mean():.3f} +- {1.96 * x.std(ddof=1) / len(x) ** 0.5:.3f}"


def table(reports: list[dict]) -> list[str]:
    """Markdown: a line per weight pair and way, then what does not depend on the pair."""
    lines = [
        "| weight of A, B | way | similarity to A | similarity to B | weighted | lesser gain | CLIP |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, weight in enumerate(WEIGHTS):
        ways = WAYS if 0 < weight < 1 else WAYS[:1]
        for way in ways:
            cells = [
                interval([r[way][key][i] for r in reports])
                for key in ("a", "b", "weighted", "lesser", "clip")
            ]
            name = way if 0 < weight < 1 else "one reference"
            lines.append(f"| {weight:.2f}, {1 - weight:.2f} | {name} | " + " | ".join(cells) + " |")
    plain = [interval([r["none"]["similarity"][j] for r in reports]) for j in (0, 1)]
    text = interval([r["none"]["clip"] for r in reports])
    lines += [f"| none | without references | {plain[0]} | {plain[1]} | | | {text} |", ""]
    lines += [
        "| attention less | weighted, 0.25 | 0.50 | 0.75 | CLIP, 0.25 | 0.50 | 0.75 |",
        "|" + "---|" * 7,
    ]
    for way in WAYS[:-1]:
        cells = [
            interval([r["attention"][key][i] - r[way][key][i] for r in reports])
            for key in ("weighted", "clip")
            for i in (1, 2, 3)
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += ["", "| way | correlation of the tilt with the weight | steps of 4 that rise |", "|---|---|---|"]
    for way in WAYS:
        correlations = [r[way]["correlation"] for r in reports if r[way]["correlation"] is not None]
        lines.append(f"| {way} | {interval(correlations)} | {interval([r[way]['rises'] for r in reports])} |")
    return lines


def sheet(out: Path, sets: tuple[int, ...]) -> Image.Image:
    """For each set the references, and the first two pictures of every way as the weight moves."""
    rows = []
    for index in sets:
        drawn, shown = np.load(out / f"set_{index:03}.npz"), references(index)
        for way in WAYS:
            names = [str(w) if w in (0.0, 1.0) else f"{way} {w}" for w in WEIGHTS]
            first = way == WAYS[0]
            pictures = [drawn[name][i] / 255 for i in (0, 1) for name in names]
            rows.append(
                (way, to_image(shown[1]) if first else None, [*pictures, shown[0] if first else None])
            )
    heads = [f"{1 - w:.2f}, {w:.2f}" for _ in range(2) for w in WEIGHTS]
    return contact_sheet(
        [(n, r, [p for p in ps if p is not None]) for n, r, ps in rows], [*heads, "other"], 96
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("output/blends"))
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--score", action="store_true")
    options = parser.parse_args()
    both = not (options.draw or options.score)
    options.out.mkdir(parents=True, exist_ok=True)
    import_host()
    if options.draw or both:
        draw_sets(options.sets, options.out)
    if options.score or both:
        from demo.judges import demo_judge

        judges = demo_judge("dino"), demo_judge("clip")
        reports = [
            score_set(i, np.load(options.out / f"set_{i:03}.npz"), *judges) for i in range(options.sets)
        ]
        (options.out / "blends.json").write_text(json.dumps(reports, indent=1))
        (options.out / "blends.md").write_text("\n".join(table(reports)) + "\n")
        sheet(options.out, SHOWN).save(options.out / "blends.png")
        print("\n".join(table(reports)))


if __name__ == "__main__":
    main()
