"""Measure the demo family against its bars: ``nox -s measure``. Writes ``figures.json`` and
``output/measure/*.png``.

Everything is sampled in the host, with its own KSampler, from the committed weights.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from zsamb_train.host import load_pack

from ..objects import OBJECTS
from ..pictures import caption, draw, sheet, training_style
from ..styles import HELD_OUT, STYLES
from .classifier import classify, load_classifier
from .descriptor import consistency, descriptor
from .hosting import import_host
from .train_vae import psnr

__all__ = ["SAMPLER", "load_pack"]
ROOT = Path(__file__).resolve().parents[2]
SAMPLER = {"steps": 30, "cfg": 5.0, "sampler_name": "ddim", "scheduler": "simple"}


def vae_quality(vae, figures: dict) -> None:
    """Reconstruction of drawn pictures that training never saw: training styles, and held-out styles."""
    rng = np.random.default_rng(77)
    names = list(OBJECTS)
    for label, pick in (
        ("training styles", lambda: training_style(rng)),
        ("held-out styles", lambda: HELD_OUT[str(rng.choice(list(HELD_OUT)))]),
    ):
        drawn = torch.from_numpy(
            np.stack([draw(str(rng.choice(names)), pick(), rng) for _ in range(120)])
        ).float()
        back = torch.cat([vae.decode(vae.encode(part)).clamp(0, 1) for part in drawn.split(24)])
        figures[f"VAE PSNR dB, {label}, 120 pictures"] = round(psnr(back, drawn), 2)


def objects_and_styles(model, clip, vae, out: Path, figures: dict) -> None:
    """240 pictures from "a {object}": are they the object, and do seeds differ in style?"""
    import nodes

    judge, pictures, wanted = load_classifier(), [], []
    encode = {o: clip.encode_from_tokens_scheduled(clip.tokenize(caption(o))) for o in OBJECTS}
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    for obj, positive in encode.items():
        latent = {"samples": torch.zeros(20, 4, 16, 16)}
        seed = 100 + list(OBJECTS).index(obj)
        latent = nodes.common_ksampler(
            model, seed, positive=positive, negative=empty, latent=latent, **SAMPLER
        )[0]
        pictures += list(vae.decode(latent["samples"]).clamp(0, 1).numpy())
        wanted += [obj] * 20
    seen = classify(judge, pictures)
    right = [a == b for a, b in zip(seen, wanted, strict=True)]
    figures["object accuracy, 240 sampled pictures"] = round(float(np.mean(right)), 4)
    figures["object accuracy by object"] = {
        o: sum(right[i * 20 : i * 20 + 20]) / 20 for i, o in enumerate(OBJECTS)
    }
    figures["style consistency among seeds of one prompt"] = round(
        float(np.mean([consistency(pictures[i * 20 : i * 20 + 20]) for i in range(len(OBJECTS))])), 3
    )
    sheet([pictures[i * 20 : i * 20 + 10] for i in range(len(OBJECTS))]).save(out / "objects.png")
    named = []
    for style in STYLES:
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(caption("cat", style)))
        latent = {"samples": torch.zeros(6, 4, 16, 16)}
        latent = nodes.common_ksampler(model, 7, positive=positive, negative=empty, latent=latent, **SAMPLER)[
            0
        ]
        named.append(list(vae.decode(latent["samples"]).clamp(0, 1).numpy()))
    sheet(named).save(out / "named_styles.png")


def descriptor_quality(figures: dict) -> None:
    """Does the descriptor see style and not content? Cosines on drawn pairs that share one and not the
    other.
    """
    rng, same_style, same_object = np.random.default_rng(55), [], []
    names = list(OBJECTS)
    for _ in range(300):
        a, b = (str(n) for n in rng.choice(names, 2, replace=False))
        s, t = training_style(rng, named=0.0), training_style(rng, named=0.0)
        first = descriptor(draw(a, s, rng))
        same_style.append(float(first @ descriptor(draw(b, s, rng))))
        same_object.append(float(first @ descriptor(draw(a, t, rng))))
    wins = np.mean([x > y for x in same_style for y in same_object])
    figures["descriptor cosine, same style and other object"] = round(float(np.mean(same_style)), 3)
    figures["descriptor cosine, same object and other style"] = round(float(np.mean(same_object)), 3)
    figures["descriptor AUC, style over object"] = round(float(wins), 4)


def inversion_quality(pack, model, clip, vae, figures: dict) -> None:
    """DDIM Invert, then the stock KSampler from the inverted latent, same prompt: how much of the picture
    returns?
    """
    import nodes

    node, rows = pack.nodes.references.DDIMInvert, {}
    for steps in (20, 50):
        for cfg in (1.0, 2.0):
            values = []
            for i, style in enumerate(HELD_OUT):
                obj = list(OBJECTS)[i * 2]
                drawn = torch.from_numpy(draw(obj, HELD_OUT[style], np.random.default_rng(i)))[None].float()
                start = vae.encode(drawn)
                positive, empty = (
                    clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in (caption(obj), "")
                )
                latent = node.execute(
                    model, {"samples": start}, positive, empty, steps, cfg, 0, "simple"
                ).result[1]
                settings = (0, steps, cfg, "ddim", "simple", positive, empty, latent)
                back = nodes.common_ksampler(model, *settings, disable_noise=True)[0]["samples"]
                values.append(psnr(vae.decode(back).clamp(0, 1), vae.decode(start).clamp(0, 1)))
            rows[f"{steps} steps, cfg {cfg:g}"] = round(float(np.mean(values)), 2)
    figures["inversion PSNR dB against the VAE's own reconstruction"] = rows


def judges_quality(figures: dict) -> None:
    """Do DINO's neighbors share a style, and does CLIP find the object? On drawings that neither has seen,
    and for DINO beside what the same network does untrained.
    """
    from zsamb_core.scores.judge import PUBLISHED, as_pictures
    from zsamb_core.scores.measures import cosines

    from ..judges import demo_judge, load_dino, make_dino
    from .drawn import OBJECT_NAMES, held_out_groups
    from .train_dino import neighbors

    groups, names = held_out_groups(6, 7_500_000)
    torch.manual_seed(0)
    for label, model in (("", load_dino()), (", untrained", make_dino().eval())):
        found = neighbors(model, groups, names)
        for part, value in found.items():
            figures[f"DINO, 5 nearest neighbors in the style{label}, {part}"] = round(value, 4)
    clip = demo_judge("clip")
    texts = clip.embed_text([caption(o) for o in OBJECT_NAMES])
    pictures = as_pictures(groups.flatten(0, 1).movedim(1, -1).float() / 255)
    images = torch.cat(
        [clip.embed(clip.prepared(pictures[i : i + 96], PUBLISHED)) for i in range(0, len(pictures), 96)]
    )
    right = cosines(images, texts).argmax(1).view(len(groups), -1) == torch.arange(len(OBJECT_NAMES))
    trained = torch.tensor([name in STYLES for name in names])
    for part, chosen in (("training styles", trained), ("held-out styles", ~trained)):
        figures[f"CLIP, zero-shot objects, {part}"] = round(float(right[chosen].float().mean()), 4)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/measure"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    import_host()
    pack = load_pack()
    model, clip, vae = pack.nodes.demo_model.LoadDemoModel.execute().result[:3]
    figures: dict = {}
    descriptor_quality(figures)
    judges_quality(figures)
    vae_quality(vae, figures)
    objects_and_styles(model, clip, vae, options.output, figures)
    inversion_quality(pack, model, clip, vae, figures)
    (ROOT / "demo" / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
