"""Draw pictures for a trainer: ``python -m tools.draw.style_folders FOLDER``.

A subfolder for each style, named or random, with all objects and a caption beside each: "a {object}", as
people caption pictures whose style is to be learned. The five held-out styles are not among them.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from demo.objects import OBJECTS
from demo.pictures import caption
from demo.styles import HELD_OUT, STYLES
from demo.training.latents import draw_group


def write_group(folder: Path, job: tuple[str, int]) -> None:
    """All objects in one style. ``job``: a style's name, or "" for a random one, and a seed."""
    name, seed = job
    place = folder / (f"{name}-{seed}" if name else f"style-{seed}")
    place.mkdir(parents=True, exist_ok=True)
    for obj, picture in zip(OBJECTS, draw_group(job), strict=True):
        Image.fromarray(picture).save(place / f"{obj}.png")
        (place / f"{obj}.txt").write_text(caption(obj) + "\n", encoding="utf-8")


def draw_folders(folder: Path, styles: int, held_out: bool = False, seed: int = 9_000_000) -> int:
    """``styles`` random styles beside the named ones, or the held-out ones alone; returns how many."""
    names = list(HELD_OUT) if held_out else [*STYLES, *[""] * styles]
    jobs = [(name, seed + i) for i, name in enumerate(names)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_group, folder), jobs, chunksize=8))
    return len(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--styles", type=int, default=400, help="random ones, beside the named")
    parser.add_argument("--held-out", action="store_true", help="the five held-out styles instead")
    options = parser.parse_args()
    count = draw_folders(options.folder, options.styles, options.held_out)
    print(f"{count} styles with {len(OBJECTS)} pictures each in {options.folder}")


if __name__ == "__main__":
    main()
