"""One writer to a folder at a time, also over a network: a lock that ends with the process that holds it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "run.json.lock"


class InUse(Exception):
    """Another run has the folder."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder and hold it. What was made goes again at the end if nothing was written into it.

    Raises InUse, and OSError where the folder cannot be made or written into.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    path = folder / LOCK
    try:
        file = _take(path)
        try:
            yield
        finally:
            # Windows removes no file that is open; elsewhere one that is closed may be another's already.
            if sys.platform == "win32":
                os.close(file)
            with suppress(OSError):
                path.unlink()
            if sys.platform != "win32":
                os.close(file)
    finally:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


def _take(path: Path) -> int:
    for _ in range(100):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not through a link that somebody put there, and not waiting for what is no file.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            file = os.open(path, flags, 0o666)
        except FileNotFoundError:  # its last holder took the empty folder away
            continue
        try:
            _lock(file)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its last holder took it away
    raise InUse


def _lock(file: int) -> None:
    """Raises InUse where another process, or another claim of this one, has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InUse from error
    except OSError:
        pass  # a file system without locks: nobody else can be told of
