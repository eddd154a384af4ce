"""The style picture of each sample: itself, another of its style, or itself with its content destroyed."""

import numpy as np
from PIL import Image

PAIRS = ("self", "group", "crop")
LEAST, MOST = 0.3, 0.6  # of the picture's area
GRID = 4
SHORT = 512  # px; an image encoder sees 224 or 336


def shuffled_crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A crop of 30 to 60 % of the area and of the picture's shape, mirrored or not, its 4 x 4 patches in
    another order (after StyleShot, 2407.01414). Its sides are multiples of 4.
    """
    share = float(np.sqrt(rng.uniform(LEAST, MOST)))
    width, height = (max(GRID, int(side * share) // GRID * GRID) for side in picture.size)
    if picture.width < width or picture.height < height:  # of fewer pixels than patches
        picture = picture.resize((max(picture.width, width), max(picture.height, height)))
    left, top = int(rng.integers(picture.width - width + 1)), int(rng.integers(picture.height - height + 1))
    pixels = np.array(picture)[top : top + height, left : left + width]
    if rng.integers(2):
        pixels = pixels[:, ::-1]
    rows, columns = height // GRID, width // GRID
    patches = (
        pixels.reshape(GRID, rows, GRID, columns, 3).transpose(0, 2, 1, 3, 4).reshape(-1, rows, columns, 3)
    )
    mixed = patches[rng.permutation(GRID * GRID)].reshape(GRID, GRID, rows, columns, 3)
    return Image.fromarray(np.ascontiguousarray(mixed.transpose(0, 2, 1, 3, 4).reshape(height, width, 3)))


def shrunk(picture: Image.Image) -> Image.Image:
    """With a short side of 512 px at most, more than any encoder sees: workers hand it over faster."""
    short = min(picture.size)
    if short <= SHORT:
        return picture
    size = round(picture.width * SHORT / short), round(picture.height * SHORT / short)
    return picture.resize(size, Image.Resampling.LANCZOS)
