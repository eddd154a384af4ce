"""Packages that a command needs and that are not installed with this one: ComfyUI's Python has them."""

import sys
from importlib.util import find_spec

PIP = {"PIL": "pillow"}  # what pip calls them, where that differs


class Lacking(ValueError):
    """Packages that are not installed; says which, and how to get them."""


def require_packages(*names: str, extra: str = "") -> None:
    """Raises Lacking for those that cannot be found. Imports none. ``extra``: which of the pack's extras
    installs them.
    """
    if lacking := [name for name in names if find_spec(name) is None]:
        wanted = f'"z-samb[{extra}]"' if extra else " ".join(PIP.get(name, name) for name in lacking)
        own = "Install them" if extra else "Use ComfyUI's own Python, or install them"
        raise Lacking(f"{sys.executable} has no {' and no '.join(lacking)}. {own}: pip install {wanted}")
