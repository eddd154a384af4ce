"""What the command says: files on stdout, progress and errors on stderr, whatever these can show."""

import codecs
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .texts import plain

# Exit codes of the command: a server or a disk failed, an input is wrong and nothing was done, no server
# answers, Ctrl-C.
FAILED, WRONG, NO_SERVER, INTERRUPTED = 1, 2, 3, 130
_ERRORS = "zsamb.any"


def take_any_text() -> None:
    """Let stdout and stderr take every text: what their encoding lacks is written as an escape (``\\u9ce5``),
    and the bytes of a file name that is no text as they are.
    """
    codecs.register_error(_ERRORS, _written)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def say(text: str) -> None:
    """A message, on stderr."""
    _write(f"{_clear()}{plain(text)}\n")


def show_step(label: str, done: int, total: int) -> None:
    """One line that changes on a terminal; in a log, a line when a node's steps are through."""
    label = plain(" ".join(label.split()), 200)
    if _clear():
        steps = f" {done}/{total}" if total else ""
        _write(f"{_clear()}{label}{steps}")
    elif total and done >= total:
        _write(f"{label} {done}/{total}\n")


def tell(paths: Iterable[Path]) -> None:
    """Paths on stdout. One that is closed or full, as by ``| head``, does not stop a batch."""
    if error := show(map(str, paths)):
        say(f"stdout takes no more ({error}); run.json has the names of the files")


def show(lines: Iterable[str]) -> str:
    """Lines on stdout. Returns what is wrong with one that is closed or full, or nothing."""
    if sys.stdout is None:
        return ""
    try:
        print("".join(f"{line}\n" for line in lines), end="", flush=True)
    except (OSError, ValueError) as error:
        # Else Python fails once more when it ends.
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return str(error)
    return ""


def _clear() -> str:
    return "\r\033[K" if sys.stderr is not None and sys.stderr.isatty() else ""


def _write(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(text, end="", file=sys.stderr, flush=True)


def _written(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unwritable = error.object[error.start : error.end]
    written = b"".join(
        bytes([ord(c) - 0xDC00])
        if "\udc80" <= c <= "\udcff" and os.name != "nt"
        else ascii(c)[1:-1].encode("ascii")
        for c in unwritable
    )
    return written, error.end
