"""``nox -s demo``: pictures in one style, from a reference and from prompts alone, through a real ComfyUI
server.

Writes the pictures, a labelled sheet and a summary of the measured style consistency to ``output/demo``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.classifier import classify, load_classifier
from demo.descriptor import consistency, similarity
from demo.objects import OBJECTS
from demo.pictures import caption, draw
from demo.styles import HELD_OUT

from . import workflows
from .host import HostError, find_host
from .server import Server, ServerError

MODES = ("reference", "prompts")
STEPS = {"steps": 30}


def to_image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def progress_line(label: str):
    def show(node: str, step: int, total: int) -> None:
        end = "\n" if step >= total else ""
        print(f"\r{label}: {node} {step}/{total}   ", end=end, flush=True)

    return show


class Studio:
    """A server, and the two workflows on the model that was asked for."""

    def __init__(self, server: Server, checkpoint: str | None):
        self.server, self.checkpoint = server, checkpoint

    def draw(
        self,
        mode: str,
        aligned: bool,
        prompts: list[str],
        seed: int,
        reference: Path | None = None,
        reference_prompt: str = "",
        show: bool = True,
    ) -> list[np.ndarray]:
        """One picture per prompt. ``aligned`` off is the same graph with the patch at strength 0: the stock
        model.
        """
        workflow = workflows.load(f"style_aligned_{mode}")
        if self.checkpoint:
            workflow = workflows.fill(workflow, ckpt_name=self.checkpoint)
        else:
            workflow = workflows.demo_twin(workflow)
        workflow = workflows.fill(
            workflow, prompts="\n".join(prompts), style="", seed=seed, strength=float(aligned)
        )
        if mode == "reference":
            workflow = workflows.fill(workflow, image=reference.name)
            workflow = workflows.set_titled(workflow, "What the reference shows", text=reference_prompt)
        label = f"{mode}, {'aligned' if aligned else 'unaligned'}"
        return self.server.run(workflow, progress_line(label) if show else None)

    def reference(self, picture: Image.Image, name: str) -> Path:
        path = self.server.base / "input" / name
        picture.save(path)
        return path


def drawn_reference(style: str, obj: str, seed: int) -> Image.Image:
    """A picture in a style that the demo model was never trained on."""
    return to_image(draw(obj, HELD_OUT[style], np.random.default_rng(seed)))


def contact_sheet(
    rows: list[tuple[str, Image.Image | None, list[np.ndarray]]], prompts: list[str], side: int = 192
) -> Image.Image:
    """Rows of (label, reference or None, pictures) under a line of prompts."""
    font = ImageFont.load_default(15)
    left, top, gap = 190, 34, 6
    sheet = Image.new(
        "RGB", (left + (side + gap) * (1 + len(prompts)), top + (side + gap) * len(rows)), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for i, text in enumerate(["reference", *prompts]):
        pen.text((left + i * (side + gap), 8), text[:24], "black", font)
    for j, (label, reference, pictures) in enumerate(rows):
        y = top + j * (side + gap)
        pen.multiline_text((8, y + side // 3), label, "black", font)
        cells = [None if reference is None else reference.convert("RGB"), *map(to_image, pictures)]
        for i, cell in enumerate(cells):
            if cell is not None:
                sheet.paste(cell.resize((side, side), Image.Resampling.LANCZOS), (left + i * (side + gap), y))
    return sheet


def show_once(studio: Studio, options: argparse.Namespace, out: Path) -> None:
    """The default run: both modes, aligned and unaligned, with the same seeds."""
    prompts = ["a cat", "a house", "a boat", "a flower"]
    if options.prompts:
        prompts = [line.strip() for line in options.prompts.read_text().splitlines() if line.strip()]
    picture, text = drawn_reference("lava", "star", 1), caption("star")
    if options.reference:
        picture, text = Image.open(options.reference).convert("RGB"), options.reference_prompt
    reference = studio.reference(picture, "reference.png")
    rows, summary = [], {
        "prompts": prompts,
        "seed": options.seed,
        "consistency": {},
        "similarity_to_reference": {},
    }
    for mode in MODES:
        for aligned in (False, True):
            name = f"{mode}_{'aligned' if aligned else 'unaligned'}"
            pictures = studio.draw(mode, aligned, prompts, options.seed, reference, text)
            for i, drawn in enumerate(pictures):
                to_image(drawn).save(out / f"{name}_{i + 1}.png")
            what = "aligned" if aligned else "unaligned"
            shown = picture if mode == "reference" else None
            kind = "to a reference" if mode == "reference" else "prompts only"
            summary["consistency"][name] = round(consistency(pictures), 3)
            rows.append((f"{what}\n{kind}\nconsistency {summary['consistency'][name]:.2f}", shown, pictures))
            if mode == "reference":
                value = similarity(pictures, np.asarray(picture.convert("RGB"), np.float32) / 255)
                summary["similarity_to_reference"][name] = round(value, 3)
    contact_sheet(rows, prompts).save(out / "sheet.png")
    lines = ["Style consistency: mean pairwise cosine of colour and texture statistics (demo/descriptor.py)."]
    lines += [f"  {name:22} {value:6.3f}" for name, value in summary["consistency"].items()]
    lines += ["Similarity to the reference:"]
    lines += [f"  {name:22} {value:6.3f}" for name, value in summary["similarity_to_reference"].items()]
    write_summary(out, summary, lines)


def measure_sets(studio: Studio, options: argparse.Namespace, out: Path) -> None:
    """``--sets N``: N sets of four prompts, each set drawn four ways, as a table."""
    judge, names, sets, rows = load_classifier(), list(OBJECTS), [], []
    right = {f"{mode}_{what}": 0 for mode in MODES for what in ("unaligned", "aligned")}
    for i in range(options.sets):
        rng = np.random.default_rng(1000 + i)
        *objects, shown = rng.choice(names, 5, replace=False).tolist()
        style = list(HELD_OUT)[i % len(HELD_OUT)]
        picture = drawn_reference(style, shown, 1000 + i)
        reference = studio.reference(picture, f"reference_{i}.png")
        entry = {
            "set": i,
            "objects": objects,
            "reference": f"{shown} in {style}",
            "consistency": {},
            "similarity": {},
        }
        for mode in MODES:
            for aligned in (False, True):
                name = f"{mode}_{'aligned' if aligned else 'unaligned'}"
                pictures = studio.draw(
                    mode,
                    aligned,
                    [caption(o) for o in objects],
                    options.seed + i,
                    reference,
                    caption(shown),
                    show=False,
                )
                entry["consistency"][name] = consistency(pictures)
                if mode == "reference":
                    entry["similarity"][name] = similarity(pictures, np.asarray(picture, np.float32) / 255)
                right[name] += sum(a == b for a, b in zip(classify(judge, pictures), objects, strict=True))
                if i < 6:
                    rows.append(
                        (
                            f"{name}\n{entry['consistency'][name]:.2f}".replace("_", "\n"),
                            picture if mode == "reference" else None,
                            pictures,
                        )
                    )
        sets.append(entry)
        print(
            f"set {i + 1} of {options.sets}: "
            + ", ".join(f"{k} {v:.2f}" for k, v in entry["consistency"].items()),
            flush=True,
        )
    contact_sheet(rows, ["first", "second", "third", "fourth"], 128).save(out / "sets.png")
    lines = [
        (
            f"{options.sets} sets of 4 prompts, seeds {options.seed} to {options.seed + options.sets - 1},"
            f" demo model, {STEPS['steps']} steps"
        ),
        "",
        f"{'':12}{'unaligned':>12}{'aligned':>12}{'sets that rise':>18}",
    ]
    summary = {"sets": sets, "table": {}}

    def line(label: str, before: list[float], after: list[float]) -> None:
        rise = sum(b > a for a, b in zip(before, after, strict=True))
        summary["table"][label] = {
            "unaligned": float(np.mean(before)),
            "aligned": float(np.mean(after)),
            "rise": rise,
        }
        lines.append(f"{label:34}{np.mean(before):10.3f}{np.mean(after):10.3f}{rise:8} of {len(before)}")

    lines[-1] = f"{'':34}{'unaligned':>10}{'aligned':>10}{'sets that rise':>16}"
    for mode in MODES:
        pair = [[s["consistency"][f"{mode}_{what}"] for s in sets] for what in ("unaligned", "aligned")]
        line(f"style consistency, {mode}", *pair)
    line(
        "similarity to the reference",
        *[[s["similarity"][f"reference_{what}"] for s in sets] for what in ("unaligned", "aligned")],
    )
    total = 4 * options.sets
    for name, count in right.items():
        summary["table"][f"object accuracy, {name}"] = count / total
        lines.append(
            f"object accuracy, {name.replace('_', ' '):24} {count / total:.3f}  ({count} of {total})"
        )
    write_summary(out, summary, lines)


def write_summary(out: Path, summary: dict, lines: list[str]) -> None:
    (out / "summary.json").write_text(json.dumps(summary, indent=1))
    (out / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def find_checkpoint(given: str, host: Path, base: Path) -> str:
    """Make a checkpoint, given as a path or as a name in the host's models folder, visible to the server;
    its name.
    """
    candidates = [Path(given).expanduser(), host / "models" / "checkpoints" / given]
    for path in candidates:
        if path.is_file():
            folder = base / "models" / "checkpoints"
            folder.mkdir(parents=True, exist_ok=True)
            os.symlink(path.resolve(), folder / path.name)
            return path.name
    raise HostError(
        f"--checkpoint {given}: no such file, looked at {' and '.join(map(str, candidates))}. Give the path"
        " of an SDXL checkpoint, for example sd_xl_base_1.0.safetensors from"
        " stabilityai/stable-diffusion-xl-base-1.0."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s demo --", description=__doc__)
    parser.add_argument("--reference", type=Path, help="your own style picture")
    parser.add_argument("--reference-prompt", default="", help="what your picture shows")
    parser.add_argument("--prompts", type=Path, help="a text file, one prompt per line")
    parser.add_argument(
        "--checkpoint",
        help=(
            "an SDXL checkpoint in place of the demo model: a path, or a name in the ComfyUI's "
            "models/checkpoints"
        ),
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--sets", type=int, help="measure this many sets of four instead, and print the table"
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    options = parser.parse_args()
    for path in (options.reference, options.prompts):
        if path is not None and not path.is_file():
            parser.error(f"{path}: no such file")
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.time()
    try:
        host = find_host()
        with tempfile.TemporaryDirectory() as base:
            checkpoint = find_checkpoint(options.checkpoint, host, Path(base)) if options.checkpoint else None
            with Server(host, Path(base)) as server:
                studio = Studio(server, checkpoint)
                (measure_sets if options.sets else show_once)(studio, options, options.output)
    except (HostError, ServerError) as error:
        sys.exit(f"demo: {error}")
    print(f"{time.time() - start:.0f} s. Pictures and summary: {options.output.resolve()}")


if __name__ == "__main__":
    main()
