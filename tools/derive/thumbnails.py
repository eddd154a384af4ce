"""Thumbnails of the first workflows for ComfyUI's template browser, drawn on the demo model:
``nox -s workflows``.
"""

import tempfile
from pathlib import Path

import numpy as np

from ..draw.demo import PROMPTS
from ..draw.studio import Studio, drawn_reference, to_image
from ..hosting.host import find_host
from ..hosting.server import Server
from ..hosting.workflows import FOLDER, load

SEED = 3


def main() -> None:
    reference = drawn_reference("lava", "star", 1)
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        studio = Studio(server)
        drawn = {
            f"style_aligned_{mode}": studio.draw(mode, True, PROMPTS, SEED, reference, "a star")
            for mode in ("prompts", "reference")
        }
        drawn["instantstyle"] = studio.instantstyle(PROMPTS, SEED, reference)
        for path in FOLDER.glob("[0-9]*.json"):  # graphs on the demo model, which end with the set
            drawn[path.stem] = server.run(load(path.stem))[-4:]
    for name, (a, b, c, d) in drawn.items():
        grid = np.concatenate([np.concatenate(row, 1) for row in ((a, b), (c, d))], 0)
        to_image(grid).resize((384, 384)).save(FOLDER.parent / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
