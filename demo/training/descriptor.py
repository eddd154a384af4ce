"""A style descriptor: color and texture statistics of a picture, blind to where things are.

It keeps quantiles of three opponent color channels (palette) and mean gradient energy at three scales and
four orientations per channel (texture and line). Both are averages over the whole picture, so position and
outline are gone; `demo.training.measure` reports how it separates styles from objects on drawn pictures. Each
feature is standardized by its mean and spread over drawn pictures, stored in ``weights/descriptor.json``;
``python -m demo.training.descriptor`` makes it.
"""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128
STORED = Path(__file__).resolve().parents[1] / "weights" / "descriptor.json"

_OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]], np.float32)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def raw_features(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) sRGB in 0..1 to the unstandardised features, (51,)."""
    channels = np.moveaxis(picture[..., :3].astype(np.float32) @ _OPPONENT.T, -1, 0)
    features = list(np.quantile(channels, QUANTILES, axis=(1, 2)).T.ravel())
    for _ in range(3):
        gy, gx = np.gradient(channels, axis=(1, 2))
        energy, angle = np.hypot(gx, gy), np.arctan2(gy, gx)
        for turn in (0, 45, 90, 135):
            # cos^2 of the angle to each orientation: opposite directions count alike.
            weight = np.cos(angle - math.radians(turn)) ** 2
            features.extend(np.sqrt((energy * weight**3).mean(axis=(1, 2)) + 1e-8))
        h, w = channels.shape[1] // 2 * 2, channels.shape[2] // 2 * 2
        channels = channels[:, :h, :w].reshape(3, h // 2, 2, w // 2, 2).mean(axis=(2, 4))
    return np.asarray(features, np.float64)


PALETTE = 3 * len(QUANTILES)  # of the features; the rest is gradient energy
PARTS = ("whole", "palette", "texture")


def texture_features(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) sRGB in 0..1 to (13,): how gradient energy spreads over scales and orientations, and how much
    of it there is for the picture's contrast. So colors cancel, with whose contrast the energy itself grows.
    """
    energy = np.square(raw_features(picture)[PALETTE:]).reshape(3, 4, 3).sum(2).ravel()
    spread = np.log(energy)
    contrast = np.log((picture[..., :3] @ _OPPONENT.T).var((0, 1)).sum() + 1e-8)
    return np.append(spread - spread.mean(), spread.mean() - contrast)


def descriptor(picture: np.ndarray, part: str = "whole") -> np.ndarray:
    """(H, W, 3) sRGB in 0..1 to a unit vector: (51,), palette and gradients weighted alike; or "palette"
    alone, (15,), or "texture" alone, (13,), which colors do not touch.
    """
    stored = json.loads(STORED.read_text())
    if picture.shape[:2] != (SIZE, SIZE):  # the gradients' scales are pixels of a drawn picture
        small = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).resize((SIZE, SIZE))
        picture = np.asarray(small, np.float32) / 255
    if part == "texture":
        z = (texture_features(picture) - stored["texture_mean"]) / stored["texture_spread"]
        return z / np.linalg.norm(z)
    z = (raw_features(picture) - stored["mean"]) / stored["spread"]
    z[:PALETTE] /= math.sqrt(PALETTE)
    z[PALETTE:] /= math.sqrt(len(z) - PALETTE)
    z = z[:PALETTE] if part == "palette" else z
    return z / np.linalg.norm(z)


def consistency(pictures: list[np.ndarray], part: str = "whole") -> float:
    """Mean cosine over all pairs of a set."""
    d = np.stack([descriptor(p, part) for p in pictures])
    return float((d @ d.T)[np.triu_indices(len(d), 1)].mean())


def similarity(pictures: list[np.ndarray], reference: np.ndarray, part: str = "whole") -> float:
    """Mean cosine of the pictures to a reference."""
    return float((np.stack([descriptor(p, part) for p in pictures]) @ descriptor(reference, part)).mean())


def main() -> None:
    """Store the features' mean and spread over drawn pictures, half of them in random styles."""
    from ..objects import OBJECTS
    from ..pictures import draw, training_style

    rng = np.random.default_rng(4)
    pictures = [draw(str(rng.choice(list(OBJECTS))), training_style(rng), rng) for _ in range(1200)]
    stored = {}
    for name, features in (("", raw_features), ("texture_", texture_features)):
        values = np.stack([features(picture) for picture in pictures])
        stored |= {f"{name}mean": values.mean(0), f"{name}spread": values.std(0)}
    text = json.dumps({name: value.round(6).tolist() for name, value in stored.items()}, indent=1)
    STORED.write_text(text + "\n")


if __name__ == "__main__":
    main()
