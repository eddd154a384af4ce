"""Packages that the pack does not install: imported when used."""

import importlib
from typing import Any


def wanted(module: str, package: str, why: str, instead: str) -> Any:
    """The module of an extra. Raises ValueError that says how to get it, or do without."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{why}, which needs the Python package {package}, and it cannot be imported ({error}). Install"
            f" it into ComfyUI's Python (python -m pip install {package}), or use {instead} in"
            " models/transformers, which needs no package."
        ) from error
