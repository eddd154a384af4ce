"""Settings as JSON, bounded before they are read."""

import json
from pathlib import Path
from typing import Any

MOST = 8 << 20  # bytes


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """An object in a folder's file. Raises ValueError where the file is missing, larger than settings are,
    or no JSON object.
    """
    path = folder / name
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError(name)
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError("too large")
        found = json.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{folder.name} has no {name} that can be read ({type(error).__name__}), expected a folder as"
            " transformers saves models."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"{folder.name}: {name} is a {type(found).__name__}, expected an object")
    return found
