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
from demo.training.measure import SAMPLER, load_pack
from zsamb_core.layers import SDXL_BLOCKS, block_name

from .knobs import run_node

PRESETS = ("style", "layout", "style and layout", "strong style", "all")
SHARED = ("output 0", "output 1", "output 2", "output 3-5", "all")
Rows = dict[str, Callable[[], object]]  # a label, and what makes the model to draw with


class Set:
    """Four prompts, a fifth object in a held-out style as style picture, and an object in none of them; all
    from ``index`` alone.
    """

    def __init__(self, pack, index: int):
        self.nodes, self.seed = pack.nodes, index
        self.base, self.clip, self.vae, self.clip_vision = self.run("demo_model.LoadDemoModel")[:4]
        rng = np.random.default_rng(1000 + index)
        *self.objects, self.shown, self.absent = rng.choice(list(OBJECTS), 6, replace=False).tolist()
        style = list(HELD_OUT)[index % len(HELD_OUT)]
        self.picture = draw(self.shown, HELD_OUT[style], np.random.default_rng(1000 + index))
        self.image = torch.from_numpy(self.picture)[None].float()
        texts = "\n".join(map(caption, self.objects))
        self.positive = self.run("prompts.PromptSet", clip=self.clip, prompts=texts)[0]
        self.negative = self.encode("")

    def run(self, node: str, **inputs) -> tuple:
        return run_node(self.nodes, node, **inputs)

    def encode(self, text: str):
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def adapted(self, weights: str = "", image=None, **inputs):
        """With the demo's adapter; ``weights``: of blocks, in place of the preset."""
        if weights:
            sliders = {"output_1": 0.0, "layers": weights}
            inputs["block_weights"] = self.run("ip_adapter.BlockWeights", **sliders)[0]
        adapter = self.run("adapter_loaders.LoadIPAdapter", file="demo IP-Adapter")[0]
        inputs |= {"model": self.base, "adapter": adapter, "clip_vision": self.clip_vision}
        inputs["image"] = self.image if image is None else image
        return self.run("ip_adapter.StyleBlockIPAdapter", **inputs)[0]

    def less(self, word: str, scale: float):
        """With the adapter in all blocks, and "a {word}" subtracted."""
        encoder = {"clip_vision": self.clip_vision, "image": self.image}
        embeds = self.run("style_embeds.EncodeStyleImages", **encoder)[0]
        content = {"embeds": embeds, "clip": self.clip, "content": caption(word), "scale": scale}
        return self.adapted(image=self.run("style_embeds.SubtractContent", **content)[0], preset="all")

    def shared(self, blocks: str):
        """With self-attention shared with the inverted style picture."""
        inputs = {"positive": self.encode(caption(self.shown)), "negative": self.negative}
        latent = {"samples": self.vae.encode(self.image)}
        inverted = self.run("references.DDIMInvert", model=self.base, latent=latent, **inputs)[0]
        inputs = {"model": self.base, "reference": inverted, "blocks": blocks}
        return self.run("style_aligned.SharedAttention", **inputs)[0]

    def pictures(self, model) -> list[np.ndarray]:
        """The four prompts, by the host's own KSampler."""
        import nodes

        latent = {"samples": torch.zeros(len(self.objects), 4, 16, 16)}
        inputs = {"positive": self.positive, "negative": self.negative, "latent": latent, **SAMPLER}
        drawn = nodes.common_ksampler(model, self.seed, **inputs)[0]["samples"]
        return list(self.vae.decode(drawn).clamp(0, 1).cpu().numpy())


def by_block(s: Set) -> Rows:
    blocks = [block_name(block) for block in SDXL_BLOCKS]
    rows: Rows = {"no adapter": lambda: s.base}
    rows |= {block: lambda block=block: s.adapted(f"{block} = 1") for block in blocks}
    return rows | {f"preset {p}": lambda p=p: s.adapted(preset=p) for p in PRESETS}


def by_words(s: Set) -> Rows:
    rows: Rows = {"preset all": lambda: s.adapted(preset="all")}
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
