"""A run's checkpoints: whole or not there, told when damaged, and the oldest removed.

A checkpoint is a folder ``checkpoints/step-00002000`` with ``state.pt`` (weights, moving averages, optimizer)
and ``about.json``, which has the hash of the first. It is written under another name, and moved when both are
on the disk. What a sample draws depends on its place alone, so the step is all that has to be remembered of
data and random numbers.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from zsamb_core.console import say

PREFIX = "step-"


def save(run: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of ``step``, then remove all but the newest ``keep``. Returns its folder."""
    folder = run / "checkpoints"
    place, part = folder / f"{PREFIX}{step:08d}", folder / f".{PREFIX}{step:08d}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with (part / "state.pt").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    about = {"step": step, "sha256": digest(part / "state.pt")}
    with (part / "about.json").open("w", encoding="utf-8") as file:
        json.dump(about, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(place, ignore_errors=True)  # of an earlier, damaged one
    part.replace(place)
    for old in sorted(folder.glob(f"{PREFIX}*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def digest(path: Path) -> str:
    """The sha256 of a file."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            made.update(part)
    return made.hexdigest()


def newest(run: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint that is whole; says which are not. None where there is none."""
    for folder in _newest_first(run):
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            if digest(folder / "state.pt") != about["sha256"]:
                raise ValueError("state.pt is not what was written")
            state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
            return int(about["step"]), state
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
            say(f"the checkpoint {folder.name} is damaged ({error}); the one before it is taken")
    return None


def last_good(run: Path) -> str:
    """The newest checkpoint's folder, for messages."""
    return next((str(folder) for folder in _newest_first(run)), "none")


def _newest_first(run: Path) -> Iterator[Path]:
    yield from sorted((run / "checkpoints").glob(f"{PREFIX}*"), reverse=True)
