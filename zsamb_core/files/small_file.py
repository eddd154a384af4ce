"""Files that people write by hand, read whole once it is known that they are small."""

from pathlib import Path


def read_small(path: Path, most: int) -> bytes:
    """A file's content. Raises OSError where it cannot be read or is no file (a pipe would be waited for),
    and ValueError for more than ``most`` bytes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path.name}")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most >> 10} KB")
    return data
