"""The procedural picture source: one object, drawn in one style, at a random pose."""

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .objects import OBJECTS
from .styles import HELD_OUT, STYLES, Style, Texture, random_style

SIZE = 128
_SUPER = 2


def caption(obj: str, style: str | None = None) -> str:
    """The prompt language the demo model is trained on."""
    return f"a {obj}" if style is None else f"a {obj} in {style} style"


def _masks(obj: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Figure and detail coverage in 0..1, each (128, 128), at a random pose."""
    angle = math.radians(rng.uniform(-12, 12))
    scale = SIZE * rng.uniform(0.33, 0.4)
    stretch = rng.uniform(0.9, 1.1)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    cx, cy = SIZE * (0.5 + rng.uniform(-0.07, 0.07)), SIZE * (0.5 + rng.uniform(-0.07, 0.07))
    cos, sin = math.cos(angle), math.sin(angle)

    def place(points):
        placed = []
        for x, y in points:
            x, y = x * mirror * stretch * scale, y / stretch * scale
            placed.append(((cx + x * cos - y * sin) * _SUPER, (cy + x * sin + y * cos) * _SUPER))
        return placed

    figure = Image.new("L", (SIZE * _SUPER, SIZE * _SUPER))
    detail = Image.new("L", figure.size)
    for part, points in OBJECTS[obj]:
        target = detail if part == "detail" else figure
        ImageDraw.Draw(target).polygon(place(points), fill=0 if part == "hole" else 255)
    small = (SIZE, SIZE)
    return tuple(
        np.asarray(m.resize(small, Image.Resampling.BOX), np.float32) / 255 for m in (figure, detail)
    )


def _pattern(texture: Texture, rng: np.random.Generator) -> np.ndarray:
    """How much of the second tone each pixel takes, in 0..1, (128, 128). The phase is random, as is a
    slight turn.
    """
    if texture.kind == "flat":
        return np.zeros((SIZE, SIZE), np.float32)
    angle = math.radians(texture.angle + rng.uniform(-4, 4))
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - SIZE / 2
    u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
    if texture.kind == "gradient":
        return np.clip(u / SIZE + 0.5, 0, 1) * texture.strength
    k = 2 * math.pi / (texture.period * rng.uniform(0.95, 1.05))
    pu, pv = rng.uniform(0, 2 * math.pi, 2)
    if texture.kind == "stripes":
        wave = 2.0 * np.sin(k * u + pu)
    elif texture.kind == "dots":
        wave = 2.0 * (np.cos(k * u + pu) + np.cos(k * v + pv) - 0.6)
    elif texture.kind == "checker":
        wave = 4.0 * np.sin(k / 2 * u + pu) * np.sin(k / 2 * v + pv)
    elif texture.kind == "rings":
        wave = 2.0 * np.sin(k * np.hypot(x, y) + pu)
    elif texture.kind == "waves":
        wave = 2.0 * np.sin(k * v + 1.1 * np.sin(k * 0.8 * u + pu) + pv)
    else:  # grid
        wave = 6.0 * (np.maximum(np.cos(k * u + pu), np.cos(k * v + pv)) - 0.8)
    return ((np.tanh(1.5 * wave) + 1) / 2 * texture.strength).astype(np.float32)


def draw(obj: str, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Draw one picture: (128, 128, 3) float32 sRGB in 0..1."""
    figure, detail = _masks(obj, rng)
    detail = np.minimum(detail, figure)

    def mix(a, b, amount):
        return (
            np.asarray(a, np.float32) * (1 - amount[..., None])
            + np.asarray(b, np.float32) * amount[..., None]
        )

    ground = mix(style.ground, style.ground2, _pattern(style.ground_texture, rng))
    body = mix(style.figure, style.figure2, _pattern(style.figure_texture, rng))
    if style.line != "none":
        width = style.line_width
        inside = ndimage.distance_transform_edt(figure > 0.5)
        outside = ndimage.distance_transform_edt(figure <= 0.5)
        if style.line == "outline":  # a drawn line on the edge, in the accent color
            band = np.clip(width / 2 + 0.5 - np.abs(outside - inside), 0, 1)
        elif style.line == "gap":  # the plain ground shows around the figure
            band = np.clip(width + 0.5 - outside, 0, 1) * (1 - figure)
        else:  # halo: a soft glow of the figure's second tone
            band = np.exp(-outside / width) * (1 - figure)
        color = {"outline": style.accent, "gap": style.ground, "halo": style.figure2}[style.line]
    picture = ground
    if style.line in ("gap", "halo"):
        picture = mix_images(picture, color, band)
    picture = mix_images(picture, body, figure)
    picture = mix_images(picture, style.accent, detail)
    if style.line == "outline":
        picture = mix_images(picture, color, band)
    return np.clip(picture, 0, 1)


def mix_images(under: np.ndarray, over, amount: np.ndarray) -> np.ndarray:
    """``under`` where ``amount`` is 0, ``over`` (a color or a picture) where it is 1."""
    return under * (1 - amount[..., None]) + np.asarray(over, np.float32) * amount[..., None]


def training_style(rng: np.random.Generator, named: float = 0.5) -> Style:
    """A named training style with probability ``named``, else one of the random family."""
    return STYLES[str(rng.choice(list(STYLES)))] if rng.random() < named else random_style(rng)


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """Paste pictures of one size into a grid."""
    return Image.fromarray(
        (np.concatenate([np.concatenate(r, 1) for r in rows], 0) * 255).round().astype(np.uint8)
    )


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    grid = [[draw(o, s, rng) for o in OBJECTS] for s in (*STYLES.values(), *HELD_OUT.values())]
    grid += [[draw(o, random_style(rng), rng) for o in OBJECTS] for _ in range(3)]
    sheet(grid).save("pictures.png")
