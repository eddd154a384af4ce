"""Files that are there whole or not at all: written beside their place, and moved once on the disk."""

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path


def write_part(part: Path, write: Callable[[Path], None]) -> Path:
    """``part``, with what ``write`` puts into it, on the disk when this returns; a failure leaves nothing.

    It is a new file, so nothing is written through a link that has its name. Raises FileExistsError.
    """
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        write(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return part


def write_over(place: Path, write: Callable[[Path], None]) -> None:
    """Replace the file at ``place``, or make it. Whoever reads it meanwhile reads the old one or the new."""
    part = write_part(_beside(place), write)
    try:
        os.replace(part, place)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def write_new(places: Path | Iterable[Path], write: Callable[[Path], None]) -> Path:
    """The path, or the first of several, that is free, with what ``write`` puts into the one it is given.

    No other file is ever replaced. Two runs at once get two places, since a name is taken by creating it,
    which only one of them can. Raises FileExistsError where none is free.
    """
    part: Path | None = None
    place: Path | None = None
    try:
        for place in [places] if isinstance(places, Path) else places:
            if os.path.lexists(place):
                continue
            if part is None:
                part = write_part(_beside(place), write)
            try:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:  # another run was quicker
                continue
            try:
                os.replace(part, place)
            except BaseException:
                place.unlink()  # nothing is in it yet
                raise
            return place
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    raise FileExistsError(f"{place} is there already, and no file is replaced")


def _beside(place: Path) -> Path:
    """A name that nobody has."""
    return place.with_name(f".{secrets.token_hex(8)}.part")
