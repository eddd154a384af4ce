"""``nox -s demo``: pictures in one style, from a reference and from prompts alone, through a real ComfyUI
server.

Writes the pictures, a labeled sheet and a summary of the measured style consistency to ``output/demo``.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from demo.objects import OBJECTS
from demo.pictures import caption
from demo.training.descriptor import consistency, similarity
from zsamb_core.console import take_any_text
from zsamb_core.pictures import read_picture

from ..hosting.host import HostError, find_host
from ..hosting.server import Server, ServerError
from .blends import measure_blends
from .sets import measure_sets
from .studio import MODES, Studio, contact_sheet, drawn_reference, to_array, to_image

PROMPTS = ["a cat", "a house", "a boat", "a flower"]


Row = tuple[str, Image.Image | None, list[np.ndarray]]  # label, reference, pictures


def without_repeat(rows: list[Row]) -> list[Row]:
    """The sheet's rows. Unaligned, a reference changes nothing where the settings are the same: such pictures
    are shown once, for both.
    """
    (label, _, pictures), *others = rows
    different = [row for row in others if not np.array_equal(row[2], pictures)]
    if len(different) < len(others):
        rows = [(label.replace("\nto a reference", ""), None, pictures), *different]
    return rows


def show_once(
    studio: Studio,
    prompts: list[str],
    seed: int,
    reference: Image.Image,
    reference_prompt: str,
    out: Path,
    scores: Callable[[list[np.ndarray], list[str]], tuple[float, float]] | None = None,
) -> None:
    """Both workflows, aligned and unaligned, and on the demo model InstantStyle, all with the same seeds.
    ``scores``: CLIP's and DINO's of a set.
    """
    reference = ImageOps.fit(reference.convert("RGB"), (studio.side, studio.side))
    reference.save(out / "reference.png")
    rows, summary = [], {"prompts": prompts, "seed": seed, "consistency": {}, "similarity_to_reference": {}}
    summary["clip_dino"] = {}

    def add(name: str, label: str, pictures: list[np.ndarray], shown: bool) -> None:
        for i, picture in enumerate(pictures):
            to_image(picture).save(out / f"{name}_{i + 1}.png")
        if len(pictures) > 1:
            summary["consistency"][name] = round(consistency(pictures), 3)
            label += f"\nconsistency {summary['consistency'][name]:.2f}"
            if scores is not None:
                summary["clip_dino"][name] = [round(x, 4) for x in scores(pictures, prompts)]
        if shown:
            value = similarity(pictures, to_array(reference))
            summary["similarity_to_reference"][name] = round(value, 3)
        rows.append((label, reference if shown else None, pictures))

    for mode in MODES:
        for kind, aligned in (("unaligned", False), ("aligned", True)):
            pictures = studio.draw(mode, aligned, prompts, seed, reference, reference_prompt)
            label = f"{kind}\n{'to a reference' if mode == 'reference' else 'prompts only'}"
            add(f"{mode}_{kind}", label, pictures, mode == "reference")
        if mode == "reference" and studio.checkpoint is None:
            pictures = studio.instantstyle(prompts, seed, reference)
            add("instantstyle", "InstantStyle\nto a reference", pictures, True)
    contact_sheet(without_repeat(rows), prompts, 192).save(out / "sheet.png")
    lines = ["Style consistency: mean pairwise cosine of color and texture statistics"]
    lines += [f"  {name:22} {value:6.3f}" for name, value in summary["consistency"].items()]
    lines += ["Similarity to the reference"]
    lines += [f"  {name:22} {value:6.3f}" for name, value in summary["similarity_to_reference"].items()]
    if summary["clip_dino"]:
        lines += [
            "CLIP text similarity / DINO set consistency, by the demo family's own judges (demo/README.md)"
        ]
        for mode in MODES:
            (a, b), (c, d) = (summary["clip_dino"][f"{mode}_{kind}"] for kind in ("unaligned", "aligned"))
            lines += [f"  {mode:22} unaligned {a:.4f} / {b:.4f}   aligned {c:.4f} / {d:.4f}"]
        if "instantstyle" in summary["clip_dino"]:
            a, b = summary["clip_dino"]["instantstyle"]
            lines += [f"  {'instantstyle':22} {a:.4f} / {b:.4f}"]
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    (out / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def demo_scores(host: Path) -> Callable[[list[np.ndarray], list[str]], tuple[float, float]]:
    """CLIP's mean cosine of pictures and their prompts, and DINO's mean cosine over pairs, by the demo's own
    judges, as the published table of StyleAligned's reproduction has them.
    """
    from demo.judges import demo_judge
    from zsamb_core.scores.judge import PUBLISHED
    from zsamb_core.scores.measures import cosines, set_consistency

    dino, clip = demo_judge("dino"), demo_judge("clip", host / "comfy" / "sd1_tokenizer")
    warned: set[str] = set()

    def scores(pictures: list[np.ndarray], prompts: list[str]) -> tuple[float, float]:
        images = [to_image(picture) for picture in pictures]
        for prompt in prompts:
            read, count = clip.read(prompt)
            if read < count and prompt not in warned:
                warned.add(prompt)
                print(f"CLIP reads {read} of the {count} tokens of {prompt[:60]!r}: the rest is not scored.")
        embeds = clip.embed(clip.prepared(images, PUBLISHED))
        text = cosines(embeds, clip.embed_text(prompts)).diagonal().mean()
        return float(text), set_consistency(dino.embed(dino.prepared(images, PUBLISHED)))

    return scores


def unknown(prompts: list[str]) -> list[str]:
    """Those without an object that the demo model has learned."""
    return [p for p in prompts if not set(OBJECTS) & set(re.findall(r"\w+", p.lower()))]


def find_checkpoint(name: str, host: Path) -> Path:
    """A checkpoint given as a path, or as a name in the host's models folder. Raises HostError."""
    candidates = [Path(name).expanduser(), host / "models" / "checkpoints" / name]
    for path in candidates:
        if path.is_file():
            return path.resolve()
    raise HostError(
        f"--checkpoint {name}: no such file, looked at {' and '.join(map(str, candidates))}. Give the path"
        " of an SDXL checkpoint, for example sd_xl_base_1.0.safetensors from"
        " stabilityai/stable-diffusion-xl-base-1.0."
    )


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line, with pictures and prompts read, so that what is wrong is said before anything
    starts.
    """
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=__doc__)
    parser.add_argument("--reference", type=Path, help="your own style picture")
    parser.add_argument("--reference-prompt", default="", help="what your picture shows")
    parser.add_argument("--prompts", type=Path, help="a text file, one prompt per line")
    parser.add_argument(
        "--checkpoint", help="SDXL in place of the demo model: a path, or a name in ComfyUI's models"
    )
    parser.add_argument("--seed", type=int, help="3 if not given; with --sets and --blends, 1 and upwards")
    parser.add_argument("--sets", type=int, help="measure this many sets of four on the demo model instead")
    parser.add_argument(
        "--group-norms",
        choices=("on", "off"),
        help="in place of the workflows': on with a reference, else off",
    )
    parser.add_argument("--blends", type=int, help="measure this many sets between two references instead")
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    options = parser.parse_args(argv)
    if (options.sets or options.blends) and (options.reference or options.prompts or options.checkpoint):
        parser.error(
            "--sets and --blends measure the demo model on prompts and references of its own; leave out the"
            " others"
        )
    options.picture, options.lines = drawn_reference("lava", "star", 1), PROMPTS
    if options.reference and not options.reference.is_file():
        parser.error(f"--reference {options.reference}: no such file")
    if options.reference:
        try:
            options.picture = read_picture(options.reference)
        except ValueError as error:
            parser.error(f"--reference: {error}")
    else:
        options.reference_prompt = options.reference_prompt or caption("star")
    if options.prompts:
        try:
            text = options.prompts.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"--prompts {options.prompts}: not a text file that can be read ({error})")
        options.lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not options.lines:
            parser.error(f"--prompts {options.prompts}: no prompt in it, expected one per line")
    return options


def main() -> None:
    take_any_text()  # of names in the console
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.time()
    try:
        host = find_host()
        checkpoint = find_checkpoint(options.checkpoint, host) if options.checkpoint else None
        with tempfile.TemporaryDirectory() as base, Server(host, Path(base), checkpoint) as server:
            settings = {"share_group_norm": options.group_norms} if options.group_norms else {}
            studio = Studio(server, checkpoint.name if checkpoint else None, **settings)
            if options.sets:
                measure_sets(studio, options.sets, options.seed or 1, options.output)
            if options.blends:
                measure_blends(studio, options.blends, options.seed or 1, options.output)
            if not options.sets and not options.blends:
                strange = [] if checkpoint else unknown(options.lines)
                if strange:
                    print(
                        f"The demo model knows no object of {', '.join(map(repr, strange))}, and draws"
                        f" something else. It knows {', '.join(OBJECTS)}. For others: --checkpoint."
                    )
                show_once(
                    studio,
                    options.lines,
                    options.seed or 3,
                    options.picture,
                    options.reference_prompt,
                    options.output,
                    None if checkpoint else demo_scores(host),
                )
    except (HostError, ServerError) as error:
        sys.exit(f"demo: {error}")
    print(f"{time.time() - start:.0f} s. Pictures and summary: {options.output.resolve()}")


if __name__ == "__main__":
    main()
