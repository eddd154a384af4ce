"""Settings as JSON, bounded before they are read."""

from pathlib import Path
from typing import Any

from ..texts import read_json
from .small_file import read_small

MOST = 8 << 20  # bytes


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """An object in a folder's file. Raises ValueError where the file is missing, larger or deeper than
    settings are, or no JSON object.
    """
    try:
        settings = read_json(read_small(folder / name, MOST).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder.name} has no {name} that can be read ({type(error).__name__}), expected a folder as"
            " transformers saves models."
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(f"{folder.name}: {name} is a {type(settings).__name__}, expected an object")
    return settings
