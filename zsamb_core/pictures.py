"""Picture files, read as ComfyUI's Load Image reads them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read_picture(path: str | Path) -> Image.Image:
    """The picture as RGB with 8 bits, upright, without its transparency; of an animation the first picture.
    Raises ValueError, naming the file, for what cannot be read as a picture.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return eight_bits(upright, image.format).convert("RGB")
    except Exception as error:  # broken files make Pillow raise whatever its decoders meet
        raise ValueError(_unreadable(path, error)) from error


def check_picture(path: str | Path) -> None:
    """Raises ValueError, naming the file, for what does not begin as a picture; its pixels are not read."""
    try:
        Image.open(path).close()
    except Exception as error:
        raise ValueError(_unreadable(path, error)) from error


def eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Grey with 16 bits scaled to 8, where Pillow would cut every level above 255 to white. Older Pillows
    open such a PNG in the mode I.
    """
    if not (image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG")):
        return image
    levels = np.asarray(image).astype(np.float64) / 257
    return Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8))


def _unreadable(path: str | Path, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return f"{path} cannot be read as a picture ({reason}). Save it again, or take it out."
