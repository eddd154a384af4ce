"""The whole batch in the host's preview while a set is drawn.

The host's samplers make one preview for each step, of the first picture of the batch. It comes from a
previewer that the node's callback holds, made for this run, where previews are on. While a run lasts, that
previewer is shown each picture in turn, and what it makes of them becomes one picture. So the preview method,
the size and the way to the page stay the host's, and there is one preview for a step as before.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from PIL import Image

GAP = 64  # of a picture's longer side in gaps


def preview_the_batch(
    executor: Any,
    noise: torch.Tensor,
    latent_image: torch.Tensor,
    sampler: Any,
    sigmas: torch.Tensor,
    denoise_mask: torch.Tensor | None = None,
    callback: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """OUTER_SAMPLE wrapper: previews of this run show all its pictures."""
    previewer = previewer_of(callback) if len(noise) > 1 and noise.ndim == 4 else None
    with showing_all(previewer):
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)


def previewer_of(callback: Any) -> Any:
    """The host's previewer that a sampler's ``callback`` holds. None without one, which is where previews are
    off, and for one by another pack that shows in its own way.
    """
    from latent_preview import LatentPreviewer  # reads the host's command line

    own = LatentPreviewer.decode_latent_to_preview_image
    for cell in getattr(callback, "__closure__", None) or ():
        with suppress(ValueError):  # a cell that is still empty
            held = cell.cell_contents
            if isinstance(held, LatentPreviewer) and type(held).decode_latent_to_preview_image is own:
                return held
    return None


@contextmanager
def showing_all(previewer: Any) -> Iterator[None]:
    """Meanwhile ``previewer``, which one run has to itself, shows the whole batch; None shows nothing."""
    if previewer is None or "decode_latent_to_preview" in vars(previewer):
        yield
        return
    show: Callable[[torch.Tensor], Image.Image] = previewer.decode_latent_to_preview
    previewer.decode_latent_to_preview = lambda x0: side_by_side([show(x) for x in x0.split(1)])
    try:
        yield
    finally:
        del previewer.decode_latent_to_preview


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in rows, from the upper left on, about as wide as high, with gaps between them."""
    width, height = pictures[0].size
    gap = math.ceil(max(width, height) / GAP)
    columns = min(
        range(1, len(pictures) + 1),
        key=lambda n: (max(n * width, math.ceil(len(pictures) / n) * height), -n),
    )
    rows = math.ceil(len(pictures) / columns)
    grid = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        grid.paste(picture, (column * (width + gap), row * (height + gap)))
    return grid
