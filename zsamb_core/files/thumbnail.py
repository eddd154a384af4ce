"""A small picture as text, to stand in another file's metadata."""

import base64
import binascii
import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 256  # pixels, of the longer side
LARGEST = 1024  # pixels of a side, and
MOST = 1 << 20  # characters, of one that is read
HEAD = "data:image/jpeg;base64,"


def as_text(picture: Tensor) -> str:
    """``picture`` (H, W, 3 or more, or 1) in 0..1 as a data URL: a JPEG of `SIDE` pixels at most. A fourth
    channel is left out.
    """
    pixels = picture.detach().float().cpu().clamp(0, 1).mul(255).round().byte().numpy()
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, -1)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return HEAD + base64.b64encode(file.getvalue()).decode("ascii")


def as_picture(text: str) -> Tensor:
    """(H, W, 3) in 0..1. Raises ValueError for what `as_text` would not write; of a picture that is said to
    be large no pixel is read.
    """
    if len(text) > MOST or not text.startswith(HEAD):
        raise ValueError(f"the small picture is no JPEG as text of {MOST:,} characters at most")
    try:
        data = base64.b64decode(text[len(HEAD) :], validate=True)
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if max(image.size) > LARGEST:
                raise ValueError(f"it has {image.size[0]} x {image.size[1]} pixels")
            pixels = np.asarray(image.convert("RGB"))
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the small picture cannot be read ({error})") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255)
