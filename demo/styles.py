"""Styles as palette, texture and line: twelve named ones to train on, five held out, and a random family.

A random style never comes near a held-out one (`too_close`), so the held-out styles are new to every trained
weight: they serve as reference pictures.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[float, float, float]

TEXTURES = ("flat", "stripes", "dots", "checker", "rings", "waves", "grid", "gradient")
LINES = ("none", "outline", "gap", "halo")


@dataclass(frozen=True)
class Texture:
    """A pattern: its kind, period in pixels of a 128 px picture, angle in degrees, strength in 0..1."""

    kind: str = "flat"
    period: float = 24.0
    angle: float = 0.0
    strength: float = 0.0


@dataclass(frozen=True)
class Style:
    """Colors are sRGB in 0..1. ``ground2`` and ``figure2`` are the second tones that the textures mix in."""

    name: str
    ground: RGB
    ground2: RGB
    figure: RGB
    figure2: RGB
    accent: RGB
    ground_texture: Texture
    figure_texture: Texture
    line: str
    line_width: float = 4.0


def _hex(text: str) -> RGB:
    return tuple(int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))  # type: ignore[return-value]


def _style(name: str, colors: str, ground: Texture, figure: Texture, line: str, width: float = 4.0) -> Style:
    g, g2, f, f2, a = (_hex(c) for c in colors.split())
    return Style(name, g, g2, f, f2, a, ground, figure, line, width)


_ALL = [
    # name, "ground ground2 figure figure2 accent", ground texture, figure texture, line
    _style(
        "blueprint", "1c3f94 3a62bd e8f0ff c5d6f7 1c3f94", Texture("grid", 21, 0, 0.9), Texture(), "gap", 5
    ),
    _style(
        "candy",
        "ffc2dd ff8fbf 2bb8a8 8ae6da ffffff",
        Texture("stripes", 26, 45, 0.9),
        Texture("dots", 22, 0, 0.8),
        "none",
    ),
    _style(
        "ember",
        "2b0f12 5a1a12 ff7a1a ffc23d 3a0d0d",
        Texture("rings", 34, 0, 0.9),
        Texture("gradient", 128, 90, 1.0),
        "halo",
        8,
    ),
    _style(
        "forest",
        "2f5d3a 497a4a d9c58a b58f52 20351f",
        Texture("waves", 28, 0, 0.9),
        Texture("stripes", 20, 90, 0.8),
        "outline",
        3,
    ),
    _style(
        "comic", "ffe14d ffb800 e8382e ff6a5c 111111", Texture("dots", 20, 30, 1.0), Texture(), "outline", 6
    ),
    _style(
        "ocean",
        "0f6f9c 1f93bb f2b880 ffd9ad 0a3a55",
        Texture("waves", 22, 0, 1.0),
        Texture("rings", 26, 0, 0.7),
        "none",
    ),
    _style("paper", "f3ead8 e6d8ba 6b4a3a 8a6450 f3ead8", Texture(), Texture(), "none"),
    _style(
        "neon",
        "140a2e 24124a 29f0d0 12b8a5 ff2fd0",
        Texture("grid", 30, 45, 0.9),
        Texture("stripes", 22, 0, 0.8),
        "halo",
        7,
    ),
    _style(
        "woodcut",
        "d8d2c4 8d8778 2a2622 5a534a d8d2c4",
        Texture("stripes", 18, 90, 0.9),
        Texture("checker", 20, 0, 0.7),
        "gap",
        4,
    ),
    _style(
        "mint",
        "bff0d4 8fdcb4 d2478a f08abb fdf6e3",
        Texture("checker", 36, 0, 0.9),
        Texture("gradient", 128, 0, 1.0),
        "outline",
        4,
    ),
    _style(
        "desert",
        "e8b070 f5d09a 4a5fa8 7d92d8 f8efd8",
        Texture("gradient", 128, 90, 1.0),
        Texture("waves", 24, 90, 0.8),
        "none",
    ),
    _style(
        "slate",
        "6e7884 8c97a3 f2e34c d6b91e 2b3138",
        Texture("stripes", 30, 135, 0.8),
        Texture("dots", 20, 45, 0.8),
        "outline",
        5,
    ),
    # Held out of all training.
    _style(
        "lava",
        "7a1030 a8203a f6d860 ffb03a 2a0610",
        Texture("waves", 30, 45, 0.9),
        Texture("checker", 24, 45, 0.8),
        "gap",
        5,
    ),
    _style(
        "orchard",
        "9ccc3c c4e26a 7a2fa0 a868cc fff7d0",
        Texture("dots", 28, 0, 0.9),
        Texture("stripes", 24, 45, 0.8),
        "halo",
        6,
    ),
    _style(
        "arctic",
        "a8d4f0 d4ecfa 1a2a6c 3c52a0 ff8c5a",
        Texture("checker", 26, 45, 0.9),
        Texture("rings", 24, 0, 0.8),
        "outline",
        4,
    ),
    _style(
        "plum",
        "5c2a6e 7d4490 9fe05c cdf59a 26102e",
        Texture("rings", 28, 0, 0.9),
        Texture("waves", 22, 0, 0.8),
        "none",
    ),
    _style(
        "rust",
        "b5562a d47c46 2ec4c9 8ce8ea 35170a",
        Texture("grid", 26, 0, 0.9),
        Texture("gradient", 128, 45, 1.0),
        "outline",
        7,
    ),
]
HELD_OUT_NAMES = ("lava", "orchard", "arctic", "plum", "rust")
STYLES = {s.name: s for s in _ALL if s.name not in HELD_OUT_NAMES}
HELD_OUT = {s.name: s for s in _ALL if s.name in HELD_OUT_NAMES}


def _distance(a: RGB, b: RGB) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def too_close(style: Style) -> bool:
    """Whether a style shares a held-out style's palette, or its pair of textures together with its line."""
    for held in HELD_OUT.values():
        if _distance(style.ground, held.ground) < 0.3 and _distance(style.figure, held.figure) < 0.3:
            return True
        kinds = (style.ground_texture.kind, style.figure_texture.kind, style.line)
        if kinds == (held.ground_texture.kind, held.figure_texture.kind, held.line):
            return True
    return False


def _random_texture(rng: np.random.Generator) -> Texture:
    kind = str(rng.choice(TEXTURES))
    if kind == "flat":
        return Texture()
    if kind == "gradient":
        return Texture(kind, 128, float(rng.choice((0, 45, 90, 135))), 1.0)
    return Texture(
        kind, float(rng.uniform(18, 36)), float(rng.choice((0, 45, 90, 135))), float(rng.uniform(0.6, 1.0))
    )


def _random_colour(rng: np.random.Generator, hue: float, light: bool) -> RGB:
    saturation = rng.uniform(0.05, 1.0) if rng.random() < 0.25 else rng.uniform(0.5, 1.0)
    lightness = rng.uniform(0.55, 0.9) if light else rng.uniform(0.12, 0.45)
    return colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)


def random_style(rng: np.random.Generator) -> Style:
    """Draw a style from the random family: any hues with a light-dark contrast between ground and figure."""
    while True:
        hue, light = rng.random(), bool(rng.random() < 0.5)
        other = hue + rng.uniform(0.25, 0.75)
        ground = _random_colour(rng, hue, light)
        figure = _random_colour(rng, other, not light)
        style = Style(
            "random",
            ground,
            _second_tone(rng, ground),
            figure,
            _second_tone(rng, figure),
            _random_colour(rng, rng.random(), light),
            _random_texture(rng),
            _random_texture(rng),
            str(rng.choice(LINES)),
            float(rng.uniform(3, 8)),
        )
        if _distance(ground, figure) > 0.55 and not too_close(style):
            return style


def _second_tone(rng: np.random.Generator, color: RGB) -> RGB:
    hue, lightness, saturation = colorsys.rgb_to_hls(*color)
    shift = rng.uniform(0.1, 0.22) * (1 if lightness < 0.5 else -1)
    return colorsys.hls_to_rgb(
        (hue + rng.uniform(-0.06, 0.06)) % 1.0, float(np.clip(lightness + shift, 0, 1)), saturation
    )
