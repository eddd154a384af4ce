"""Train adapters on the demo's drawn pictures, and compare them: ``nox -s train_adapter``.

Pictures are drawn into style folders, encoded once by ``zsamb prepare``, and trained on by ``zsamb train``,
as a user would do it. Then each adapter draws sets of four prompts in the held-out styles, at several
weights. The table has the probe's gains (error that style and content of the picture save), and of the
pictures the similarity to the style picture, the objects recognized of four, and what leaks: how probable a
classifier finds the style picture's object.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from demo.training.classifier import load_classifier
from zsamb_core.cli import main as zsamb
from zsamb_train.host import import_host, load_pack

from .roles import Set, measured
from .style_folders import draw_folders

STYLE_BLOCK = "output 5"  # where the demo UNet has its style: nox -s roles
WEIGHTS = (0.5, 1.0, 2.0)
BATCH = 48


@dataclass(frozen=True)
class Arm:
    """What is trained, and on which pairs."""

    blocks: str
    pairs: str

    @property
    def name(self) -> str:
        return f"{self.blocks}, {self.pairs}"


ARMS = [Arm(blocks, pairs) for blocks in (STYLE_BLOCK, "all") for pairs in ("self", "group", "crop")]
QUICK = [Arm(STYLE_BLOCK, "group"), Arm("all", "self")]


def command(*arguments: object) -> None:
    """``zsamb`` in this process. Raises RuntimeError where it fails."""
    if code := zsamb([str(a) for a in arguments]):
        raise RuntimeError(f"zsamb {arguments[0]} ended with {code}")


def prepare(output: Path, styles: int) -> Path:
    """Shards of drawn pictures, drawn and encoded once."""
    pictures, shards = output / "pictures", output / "shards"
    if not pictures.is_dir():
        draw_folders(pictures, styles)
    command("prepare", pictures, shards, "--checkpoint", "demo", "--resolution", 128, "--keep-pictures")
    return shards


def trained(arm: Arm, seed: int, shards: Path, output: Path, samples: int) -> Path:
    """The adapter of an arm; the run goes on where it was."""
    run = output / f"{arm.blocks.replace(' ', '-')}-{arm.pairs}-{seed}"
    steps = max(samples // BATCH, 1)
    command(
        "train", shards, "--checkpoint", "demo", "--blocks", arm.blocks, "--pairs", arm.pairs,
        "--resolution", 128, "--batch", BATCH, "--steps", steps, "--rate", 1e-3, "--schedule", "cosine",
        "--warmup", steps // 10, "--average", 0.998, "--seed", seed, "--output", run, "--save-every", 200,
        "--probe-every", steps, "--sheet-every", steps, "--workers", 1, "--track", "none",
    )  # fmt: skip
    return run


def gains(run: Path) -> list[float]:
    """Style and content of the run's last probe."""
    last = (run / "curves.csv").read_text(encoding="utf-8").strip().splitlines()
    head = last[0].split(",")
    line = dict(zip(head, last[-1].split(","), strict=True))
    return [float(line["style"]), float(line["content"])]


@torch.inference_mode()
def drawn(arm: Arm, run: Path, sets: int) -> dict[float, list[list[float]]]:
    """What `roles.measured` says of each set, by weight."""
    pack, judge = load_pack(), load_classifier()
    adapter = pack.zsamb_core.instantstyle.adapter_file.open_adapter(run / "adapter.safetensors")
    values: dict[float, list[list[float]]] = {weight: [] for weight in WEIGHTS}
    for index in range(sets):
        one = Set(pack, index)
        for weight in WEIGHTS:
            inputs = {"adapter": adapter, "weight": weight, "preset": "all"}
            blocks = "" if arm.blocks == "all" else f"{arm.blocks} = 1"
            values[weight].append(
                measured(one, one.pictures(one.adapted(one.image, blocks, **inputs)), judge)
            )
    return values


def row(arm: Arm, runs: list[Path], drawings: list[dict[float, list[list[float]]]]) -> str:
    """Means and standard errors: of the gains over seeds, of the pictures over sets and seeds."""
    cells = [_cell(column, 4) for column in zip(*map(gains, runs), strict=True)]
    for head in (0, 4):  # similarity, leak
        cells += [_cell([v[head] for d in drawings for v in d[weight]], 3) for weight in WEIGHTS]
    cells.append(_cell([v[3] for d in drawings for v in d[1.0]], 2))
    return f"| {arm.name} | {' | '.join(cells)} |"


def _cell(values: object, digits: int) -> str:
    numbers = np.asarray(values, float)
    error = numbers.std(ddof=1) / len(numbers) ** 0.5 if len(numbers) > 1 else 0.0
    return f"{numbers.mean():.{digits}f} +- {error:.{digits}f}"


def heads() -> list[str]:
    by_weight = [f"{name} at {w:g}" for name in ("similarity", "leak") for w in WEIGHTS]
    columns = ["", "style gain", "content gain", *by_weight, "objects of 4"]
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s train_adapter --", description=__doc__)
    parser.add_argument("--samples", type=int, default=9600, help="pictures each adapter is trained on")
    parser.add_argument("--styles", type=int, default=200, help="random ones that are drawn, of 12 pictures")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--arms", choices=("two", "all"), default="two")
    parser.add_argument("--output", type=Path, default=Path("output/train_adapter"))
    options = parser.parse_args()
    import_host()
    shards = prepare(options.output, options.styles)
    lines = heads()
    for arm in ARMS if options.arms == "all" else QUICK:
        runs = [trained(arm, seed, shards, options.output, options.samples) for seed in range(options.seeds)]
        drawings = [drawn(arm, run, options.sets) for run in runs]
        lines.append(row(arm, runs, drawings))
        (options.output / "table.json").write_text(json.dumps(lines))
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
