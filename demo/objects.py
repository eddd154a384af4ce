"""Twelve objects as layered polygons in the unit square [-1, 1] x [-1, 1], y pointing down.

Each object is a list of ``(part, points)``: ``body`` adds to the figure, ``hole`` cuts out of it,
``detail`` is painted on top in the accent color. A silhouette is all that tells the objects apart; color
never does.
"""

import math

Point = tuple[float, float]
Part = tuple[str, list[Point]]


def ellipse(
    cx: float, cy: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0
) -> list[Point]:
    """Points on an ellipse arc, angles in degrees, clockwise on screen."""
    n = max(8, round(abs(stop - start) / 9))
    angles = [math.radians(start + (stop - start) * i / n) for i in range(n + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def radial(radii: list[float], turn: float = -90.0) -> list[Point]:
    """A closed star-shaped outline from radii at equal angles."""
    n = len(radii)
    angles = [math.radians(turn + 360.0 * i / n) for i in range(n)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def heart_curve() -> list[Point]:
    points = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 17.5, -y / 16 - 0.1))
    return points


def crescent() -> list[Point]:
    return ellipse(0.0, 0.0, 0.9, 0.9, 55, 305) + ellipse(0.32, 0.0, 0.74, 0.74, 280, 80)


OBJECTS: dict[str, list[Part]] = {
    "cat": [
        ("body", ellipse(0, 0.2, 0.78, 0.66)),
        ("body", [(-0.74, 0.1), (-0.72, -0.9), (-0.12, -0.38)]),
        ("body", [(0.74, 0.1), (0.72, -0.9), (0.12, -0.38)]),
        ("detail", ellipse(-0.3, 0.1, 0.12, 0.17)),
        ("detail", ellipse(0.3, 0.1, 0.12, 0.17)),
        ("detail", [(-0.14, 0.4), (0.14, 0.4), (0, 0.56)]),
    ],
    "fish": [
        ("body", ellipse(-0.15, 0, 0.72, 0.44)),
        ("body", [(0.38, 0.0), (0.95, -0.52), (0.8, 0.0), (0.95, 0.52)]),
        ("body", [(-0.3, -0.36), (0.05, -0.72), (0.22, -0.3)]),
        ("detail", ellipse(-0.52, -0.08, 0.1, 0.1)),
    ],
    "house": [
        ("body", rectangle(-0.66, -0.12, 0.66, 0.85)),
        ("body", [(-0.92, -0.08), (0.0, -0.92), (0.92, -0.08)]),
        ("detail", rectangle(-0.16, 0.3, 0.18, 0.85)),
        ("detail", rectangle(0.32, 0.1, 0.56, 0.36)),
    ],
    "tree": [
        ("body", rectangle(-0.15, 0.4, 0.15, 0.95)),
        ("body", [(0.0, -0.95), (0.52, -0.3), (-0.52, -0.3)]),
        ("body", [(0.0, -0.6), (0.66, 0.1), (-0.66, 0.1)]),
        ("body", [(0.0, -0.2), (0.8, 0.55), (-0.8, 0.55)]),
    ],
    "star": [("body", radial([0.98, 0.42] * 5))],
    "heart": [("body", heart_curve())],
    "moon": [("body", crescent())],
    "flower": [
        *[
            ("body", ellipse(0.56 * math.cos(a), 0.56 * math.sin(a), 0.36, 0.36))
            for a in (math.radians(-90 + 60 * i) for i in range(6))
        ],
        ("body", ellipse(0, 0, 0.5, 0.5)),
        ("detail", ellipse(0, 0, 0.28, 0.28)),
    ],
    "cup": [
        ("body", [(-0.72, -0.6), (0.42, -0.6), (0.3, 0.75), (-0.6, 0.75)]),
        ("body", ellipse(0.46, -0.02, 0.42, 0.42)),
        ("hole", ellipse(0.5, -0.02, 0.2, 0.2)),
        ("detail", rectangle(-0.66, -0.3, 0.36, -0.1)),
    ],
    "boat": [
        ("body", [(-0.95, 0.35), (0.95, 0.35), (0.58, 0.85), (-0.6, 0.85)]),
        ("body", [(-0.05, -0.95), (-0.05, 0.2), (-0.75, 0.2)]),
        ("body", [(0.08, -0.7), (0.7, 0.2), (0.08, 0.2)]),
        ("body", rectangle(-0.06, -0.95, 0.09, 0.4)),
    ],
    "mushroom": [
        ("body", ellipse(0, 0.0, 0.92, 0.85, 180, 360)),
        ("body", [(-0.28, -0.05), (0.28, -0.05), (0.36, 0.9), (-0.36, 0.9)]),
        ("detail", ellipse(-0.38, -0.36, 0.16, 0.16)),
        ("detail", ellipse(0.32, -0.3, 0.19, 0.19)),
    ],
    "car": [
        ("body", [(-0.95, 0.0), (0.95, 0.0), (0.95, 0.45), (-0.95, 0.45)]),
        ("body", [(-0.6, 0.05), (-0.36, -0.45), (0.36, -0.45), (0.66, 0.05)]),
        ("body", ellipse(-0.5, 0.45, 0.25, 0.25)),
        ("body", ellipse(0.5, 0.45, 0.25, 0.25)),
        ("detail", [(-0.4, -0.02), (-0.26, -0.32), (-0.04, -0.32), (-0.04, -0.02)]),
        ("detail", [(0.08, -0.02), (0.08, -0.32), (0.28, -0.32), (0.46, -0.02)]),
    ],
}
