"""The archive that the registry takes, what .comfyignore leaves of the tracked files, and a ComfyUI in which
it is the only custom node.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pathspec

from . import server
from .host import find_host

ROOT = Path(__file__).resolve().parents[2]
NAME = "z-samb"  # the folder that the registry's installers make for it


def tracked_files() -> list[str]:
    """The paths of the repository's files. Raises CalledProcessError outside a git clone."""
    # A container that has the files from another user is told to trust them, for this one command.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in done.stdout.split("\0") if path]


def archive_files() -> list[str]:
    """The paths of the archive's files."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".comfyignore").read_text().splitlines())
    return [path for path in tracked_files() if not ignored.match_file(path)]


def unpack(place: Path) -> None:
    """The archive's files in a folder."""
    for path in archive_files():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, place / path)


@contextmanager
def installed(base: Path) -> Iterator[server.Server]:
    """A server of the base folder ``base`` with the archive under custom_nodes."""

    def install(custom_nodes: Path) -> None:
        unpack(custom_nodes / NAME)

    with server.Server(find_host(), base, install=install) as running:
        yield running
