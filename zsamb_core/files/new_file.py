"""Files that take no other's place: a name that is there already is never written to."""

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path


def write_new(places: Path | Iterable[Path], write: Callable[[Path], None]) -> Path:
    """The path, or the first of several, that is free, with what ``write`` puts into the one it is given.

    The content is written beside the first place, under a name that nobody has, and moved when it is whole:
    a save that fails leaves nothing. Two runs at once get two places, since a name is taken by creating it,
    which only one of them can. Raises FileExistsError where none is free.
    """
    unfinished: Path | None = None
    place: Path | None = None
    try:
        for place in [places] if isinstance(places, Path) else places:
            if os.path.lexists(place):
                continue
            if unfinished is None:
                unfinished = place.with_name(f".{secrets.token_hex(8)}.part")
                write(unfinished)
            try:
                os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:  # another run was quicker
                continue
            try:
                os.replace(unfinished, place)
            except BaseException:
                place.unlink()  # nothing is in it yet
                raise
            return place
    finally:
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
    raise FileExistsError(f"{place} is there already, and no file is replaced")
