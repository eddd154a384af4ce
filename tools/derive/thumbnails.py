"""Thumbnails of the graphs for ComfyUI's template browser: ``nox -s workflows``,
or ``python -m tools.derive.thumbnails NAME ...`` for some.

The demo model draws what a graph does, and references stand in the middle of the set that has their style.
A graph that the demo model cannot draw, for want of a ControlNet or of speech, has a picture of itself.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..draw.demo import PROMPTS
from ..draw.studio import Studio, drawn_reference, in_style_block, to_image
from ..hosting.browser import open_page, show
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import FOLDER, fill, load
from .titles import title_of

SEED, STEPS = 3, 16  # few, as the pictures are small
SIDE, INSET, LINE = 384, 116, 6  # px of a thumbnail, of a reference in it, and of the line around that
QUALITY = 86
REFERENCES = (("lava", "star"), ("arctic", "moon"))  # as the graphs' prompts describe them: style, object
Pictures = list[np.ndarray]


def square(picture: np.ndarray, side: int) -> Image.Image:
    return to_image(picture).resize((side, side))


def four(pictures: Pictures) -> Image.Image:
    image, side = Image.new("RGB", (SIDE, SIDE)), SIDE // 2
    for i, picture in enumerate(pictures):
        image.paste(square(picture, side), (i % 2 * side, i // 2 * side))
    return image


def around(pictures: Pictures, *references: Image.Image) -> Image.Image:
    """The set, and in its middle what it looked at."""
    image = four(pictures)
    inset = INSET if len(references) == 1 else round(INSET * 0.8)
    left, top = (SIDE - inset * len(references)) // 2, (SIDE - inset) // 2
    for i, reference in enumerate(references):
        framed = ImageOps.expand(reference.resize((inset - 2 * LINE,) * 2), LINE, "white")
        image.paste(framed, (left + i * inset, top))
    return image


def rows(*sets: Pictures) -> Image.Image:
    """Sets below one another, of each as many pictures as fit."""
    image, side = Image.new("RGB", (SIDE, SIDE), "white"), SIDE // len(sets)
    for y, pictures in enumerate(sets):
        for x, picture in enumerate(pictures[: len(sets)]):
            image.paste(square(picture, side), (x * side, y * side))
    return image


class Drawn:
    """What the demo model makes of the graphs, one method for each kind."""

    def __init__(self, server: Server):
        self.server, self.studio = server, Studio(server, seed=SEED, steps=STEPS)
        self.references = [drawn_reference(*named, 1) for named in REFERENCES]
        for name, picture in (("reference", 0), ("reference_2", 1), ("style", 0)):
            self.references[picture].save(server.base / "input" / f"{name}.png")

    def run(self, name: str, **values: str) -> Pictures:
        """The graph's pictures. Where it has an adapter, that acts in the demo's own style block."""
        workflow = in_style_block(self.studio.on_model(load(name)))
        return self.server.run(fill(workflow, prompts="\n".join(PROMPTS), style="", **values))

    def first(self, name: str) -> Image.Image:
        pictures = self.server.run(load(name))[4:]  # before the set are the pictures without
        return four(pictures) if len(pictures) == 4 else around(pictures[-4:], self.references[0])

    def alone(self, name: str) -> Image.Image:
        return four(self.run(name))

    def styled(self, name: str) -> Image.Image:
        return around(self.run(name), self.references[0])

    def famous(self, name: str) -> Image.Image:
        return around(self.run(name, preset="famous"), self.references[0])

    def between(self, name: str) -> Image.Image:
        return around(self.run(name), *self.references)

    def larger(self, name: str) -> Image.Image:
        first, *others = self.run(name)
        image, side = square(first, SIDE), SIDE // 3
        for i, picture in enumerate(others):
            image.paste(square(picture, side), (SIDE - side, i * side))
        return image

    def blended(self, name: str) -> Image.Image:
        pictures = self.run(name)
        return rows(pictures[:4], pictures[4:8], pictures[8:])

    def kept(self, name: str) -> Image.Image:
        return around(self.server.run(load(name))[:4], self.references[0])  # behind them the loader's own

    def sheet(self, name: str) -> Image.Image:
        """The graph's sheet, which is its largest picture; of a tall one the upper part."""
        sheet = to_image(max(self.server.run(load(name)), key=np.size))
        upper = sheet.crop((0, 0, sheet.width, min(sheet.size)))
        return ImageOps.pad(upper, (SIDE, SIDE), color="white")

    def scored(self, name: str) -> Image.Image:
        pictures = self.run(name)
        charts = [pictures[9], pictures[8], pictures[10]]  # DINO's of both sets, and CLIP's
        return rows(pictures[4:8], pictures[:4], charts)


KINDS: dict[str, Callable[[Drawn, str], Image.Image]] = {
    **{path.stem: Drawn.first for path in FOLDER.glob("* Try it *.json")},
    "style_aligned_prompts": Drawn.alone, "style_aligned_reference": Drawn.styled,
    "instantstyle": Drawn.styled, "style_aligned_famous": Drawn.famous,
    "style_aligned_two_references": Drawn.between, "instantstyle_style_aligned": Drawn.styled,
    "blend_two_references": Drawn.blended, "style_aligned_high_resolution": Drawn.larger,
    "score_sheet": Drawn.scored, "style_kept_in_a_file": Drawn.kept, "attention_picture": Drawn.sheet,
    "strength_by_picture": Drawn.sheet, "instantstyle_or_all_blocks": Drawn.sheet,
}  # fmt: skip
# The others, each with the number of the group that its picture shows.
SHOWN = {
    "instantstyle_content_subtraction": 3, "style_aligned_depth": 3, "style_aligned_canny": 3,
    "instantstyle_controlnet": 3, "instantstyle_plus": 3, "context_to_prompt": 2,
}  # fmt: skip
# The group's upper part fills a square of the page; models that a fresh server lacks are no matter here.
ZOOM = """([number, side, left, top]) => {
    const group = app.graph._groups[number - 1], { ds, canvas } = app.canvas;
    const width = Math.min(group.size[0], 800), box = canvas.getBoundingClientRect();
    ds.scale = side / width;
    ds.offset = [left / ds.scale - group.pos[0], top / ds.scale - group.pos[1]];
    for (const node of app.graph._nodes) node.has_errors = false;
    app.canvas.draw(true, true);
    return [box.left + left, box.top + top];
}"""


def graph(page, name: str) -> Image.Image:
    """Its main group on the canvas."""
    show(page, json.loads((FOLDER.parent / f"{title_of(name)}.json").read_text()))
    page.wait_for_timeout(1000)
    x, y = page.evaluate(ZOOM, [SHOWN[name], 2 * SIDE, 400, 150])
    page.wait_for_timeout(700)
    shot = page.screenshot(clip={"x": x, "y": y, "width": 2 * SIDE, "height": 2 * SIDE})
    return Image.open(io.BytesIO(shot)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def keep(name: str, image: Image.Image) -> None:
    path = FOLDER.parent / f"{title_of(name)}.jpg"
    image.save(path, quality=QUALITY, optimize=True)
    print(f"workflows/{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def main() -> None:
    known = [*KINDS, *SHOWN]
    parser = argparse.ArgumentParser(prog="python -m tools.derive.thumbnails", description=__doc__)
    parser.add_argument("names", nargs="*", help="of API files; without, all", metavar="NAME")
    names = parser.parse_args().names or known
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        drawn = Drawn(server)
        for name in filter(KINDS.__contains__, names):
            keep(name, KINDS[name](drawn, name))
        with open_page(server.url, 1900, 1100) as page:
            for name in filter(SHOWN.__contains__, names):
                keep(name, graph(page, name))


if __name__ == "__main__":
    main()
