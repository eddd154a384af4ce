"""The arguments of ``zsamb train``. Imports nothing heavy."""

import argparse
from pathlib import Path

DESCRIPTION = """Train a style adapter on your own pictures: the projector, and the keys and values of the
chosen blocks, of an IP-Adapter; everything else is frozen. The same command again goes on where the last one
stopped. Runs as it is on one device, and under `accelerate launch` or `torchrun` on many."""

EXAMPLES = """examples:
  zsamb train pictures --checkpoint sd_xl_base_1.0.safetensors --clip-vision clip_vision_h.safetensors \\
      --init ip-adapter_sdxl_vit-h.safetensors --pairs group --output runs/ink
  zsamb train pictures --checkpoint ... --plan --tflops 400
exit codes:
  0    trained to the last step, or stopped by SIGTERM after saving
  1    the training stopped: a loss that is no number, a full disk
  2    an input is wrong
  130  interrupted"""

PAIRS = ("self", "group", "crop")
# Changing these in a run that goes on would make it another run.
FREE = {"steps", "keep", "save_every", "probe_every", "sheet_every", "workers", "track", "plan", "tflops",
        "output", "project", "prompts"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add_data(parser)
    add_model(parser)
    add_recipe(parser)
    add_run(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "data", metavar="DATA", type=Path,
        help="a folder of pictures with .txt captions (subfolders are style groups) or metadata.jsonl, of"
        " .tar shards or of .parquet files; or a JSON list of image_file and text",
    )  # fmt: skip
    group.add_argument("--pictures", metavar="FOLDER", type=Path, help="where the files of a JSON list lie")
    group.add_argument("--validation", metavar="DATA", type=Path, help="other pictures for the probe")
    group.add_argument("--resolution", metavar="PX", type=int, default=512, help="512 if not given")
    group.add_argument(
        "--pairs", choices=PAIRS, default="self",
        help="the style picture of each picture: itself (published), another of its style group, or a"
        " shuffled crop of itself",
    )  # fmt: skip
    group.add_argument("--workers", metavar="N", type=int, default=2, help="processes that read pictures")


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--checkpoint", metavar="FILE", default=None, help="an SDXL checkpoint, or demo")
    group.add_argument("--clip-vision", metavar="FILE", type=Path, help="the image encoder's file")
    group.add_argument("--kind", choices=("base", "plus"), default="base", help="of adapter")
    group.add_argument(
        "--blocks", default="style",
        help="style (if not given), layout, style and layout, all, or a list such as output 1, input 8",
    )  # fmt: skip
    group.add_argument("--init", metavar="FILE", type=Path, help="an adapter to go on from")
    group.add_argument(
        "--freeze-projector", action="store_true", help="train keys and values alone, for small sets"
    )
    group.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of the UNet")
    group.add_argument(
        "--checkpointing", action="store_true", help="compute activations again: less memory, a fifth slower"
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recipe (defaults as published)")
    group.add_argument("--steps", type=int, default=10_000, help="10000 if not given")
    group.add_argument("--batch", type=int, default=16, help="pictures a step, over all processes")
    group.add_argument("--accumulate", metavar="N", type=int, default=1, help="parts that a step is done in")
    group.add_argument("--rate", type=float, default=1e-4, help="of learning")
    group.add_argument("--schedule", choices=("constant", "cosine"), default="constant", help="of the rate")
    group.add_argument("--warmup", metavar="STEPS", type=int, default=0, help="in which the rate rises")
    group.add_argument("--weight-decay", type=float, default=1e-2, help="0.01 if not given")
    group.add_argument("--clip", type=float, default=1.0, help="of the gradient's norm; published: 0, none")
    group.add_argument("--average", type=float, default=0.999, help="of the moving average; 0 for none")
    group.add_argument("--drop-image", type=float, default=0.05, help="share of samples without image")
    group.add_argument("--drop-text", type=float, default=0.05, help="without caption")
    group.add_argument("--drop-both", type=float, default=0.05, help="without either")
    group.add_argument("--offset-noise", type=float, default=0.0, help="published: 0, none")
    group.add_argument(
        "--timesteps", choices=("uniform", "style"), default="uniform",
        help="noise levels: all alike, or most where style is decided",
    )  # fmt: skip
    group.add_argument("--style-mean", type=float, default=-3.5, help="of log SNR, for --timesteps style")
    group.add_argument("--style-spread", type=float, default=2.0, help="around it")
    group.add_argument("--style-share", type=float, default=0.7, help="the others are uniform")
    group.add_argument("--min-snr", metavar="GAMMA", type=float, default=0.0, help="published: 0, none")
    group.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")


def add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--output", metavar="FOLDER", type=Path, default=Path("output/train"),
        help="for all files of the run; output/train if not given",
    )  # fmt: skip
    group.add_argument("--save-every", metavar="STEPS", type=int, default=500, help="500 if not given")
    group.add_argument("--keep", metavar="N", type=int, default=3, help="checkpoints")
    group.add_argument("--probe-every", metavar="STEPS", type=int, default=500, help="0 for never")
    group.add_argument("--sheet-every", metavar="STEPS", type=int, default=2000, help="0 for never")
    group.add_argument("--prompts", metavar="FILE", type=Path, help="for the sheets, else captions")
    group.add_argument(
        "--track", metavar="NAME", nargs="*", default=["tensorboard"],
        help="trackers of accelerate: tensorboard (if not given), wandb, trackio, mlflow and others, or none",
    )  # fmt: skip
    group.add_argument("--project", default="zsamb", help="name for the trackers")
    group.add_argument(
        "--plan", action="store_true", help="print memory, FLOP and time of a step, and load nothing"
    )
    group.add_argument("--tflops", type=float, default=400.0, help="of the device, for --plan")
