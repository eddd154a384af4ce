"""Pictures for training, from files and from parts of files."""

from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from zsamb_core.messages import short
from zsamb_core.pictures import eight_bits

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MOST = 2 * 89_478_485  # pixels; Pillow refuses more where no program has set another limit
ORIENTATION = 0x0112  # EXIF's tag; from 5 on, the picture lies on its side


def size_of(file: Path | BinaryIO) -> tuple[int, int]:
    """(width, height) of the upright picture; its pixels are not read. Raises ValueError with the reason for
    what does not begin as a picture.
    """
    try:
        with Image.open(file) as image:
            _refuse_large(image)
            # Pillow would decode a whole PNG to look for EXIF behind the pixels.
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            width, height = image.size
            if isinstance(image, TiffImageFile):  # whose size is turned already in some versions of Pillow
                width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
            return (height, width) if turned else (width, height)
    except Exception as error:  # broken files make Pillow raise whatever its decoders meet
        raise ValueError(_reason(error)) from error


def read_rgb(file: Path | BinaryIO) -> Image.Image:
    """RGB with 8 bits, upright, transparent parts over white; of an animation the first picture. Raises
    ValueError with the reason for what cannot be read as a picture.
    """
    try:
        with Image.open(file) as image:
            _refuse_large(image)
            upright = eight_bits(ImageOps.exif_transpose(image), image.format)
            if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            return upright.convert("RGB")
    except Exception as error:
        raise ValueError(_reason(error)) from error


def _refuse_large(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MOST:
        raise ValueError(f"{width} x {height} pixels, expected {MOST / 1e6:.0f} million at most")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its own text quotes an object of Python
        return "not a picture, or damaged at its beginning"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return short(str(error) or type(error).__name__)
