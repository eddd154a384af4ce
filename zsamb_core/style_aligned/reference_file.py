"""Style references in files: one safetensors file holds all of a `StyleReference`, and a small picture.

Its metadata is ``format``, ``version``, ``pack`` (the pack that wrote it), ``structure`` (what is where, as
JSON), ``crc32`` (of each tensor's bytes, as JSON) and perhaps ``thumbnail`` (a JPEG as a data URL).
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..files import thumbnail
from ..files.plain_values import put_together, taken_apart
from ..files.safetensors_file import HEADER, WRONG_CONTENT, opened
from ..files.whole_file import write_new
from ..finite import require_finite
from ..messages import quoted, short
from ..texts import read_json
from .reference import Reference, StyleReference, Trajectory

FORMAT, VERSION = "zsamb_style_reference", 1
OTHERS = {"zsamb_style_embeds": "encoded style images, for Load Style Embeds"}
PATH, COUNTS = ("sigmas", "points", "fresh", "noise"), ("weight", "shift", "scale", "mask", "offset")
PROMPTS = ("positive", "negative")
FIELDS = (*PATH, *PROMPTS, *COUNTS)
# What a prompt may carry besides numbers, by the host's names for it.
CARRIED = {
    "control": "a ControlNet", "hooks": "hooks (scheduled LoRAs or weights)", "gligen": "GLIGEN boxes",
    "unclip_conditioning": "unCLIP pictures",
}  # fmt: skip


def save_reference(
    reference: StyleReference, places: Path | Iterable[Path], picture: Tensor | None = None
) -> Path:
    """One safetensors file at the first of ``places``, or at the one, that is free; no file is replaced.
    ``picture`` (H, W, channels) in 0..1. Raises ValueError for what a file cannot keep, before it is made.
    """
    tensors: dict[str, Tensor] = {}
    structure = [_fields(i, r, tensors) for i, r in enumerate(reference.references)]
    _together(structure, tensors)
    # Copies of their own: safetensors takes no two tensors that share their memory.
    kept = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    about = {
        "format": FORMAT,
        "version": str(VERSION),
        "pack": __version__,
        "structure": json.dumps(structure),
        "crc32": json.dumps({name: _crc32(tensor) for name, tensor in kept.items()}),
    }
    if picture is not None:
        about["thumbnail"] = thumbnail.as_text(picture)
    if (size := sum(map(len, about.values()))) > HEADER // 2:
        raise ValueError(
            f"what the file says of itself has {size:,} characters, expected {HEADER // 2:,} at most. Save"
            " fewer references in one file."
        )
    return write_new(places, lambda path: save_file(kept, path, about))


def load_reference(path: Path) -> tuple[StyleReference, Tensor | None]:
    """The reference as it was saved, on the CPU and in memory of its own, and the small picture (H, W, 3) in
    0..1 if there is one. Raises ValueError, naming the file, for one that `save_reference` did not write.
    """
    with opened(path) as file:
        about = file.metadata() or {}
        _require_kind(path.name, about)
        with _damaged(path.name):
            sums = read_json(about["crc32"])
            if not isinstance(sums, dict) or sums.keys() != set(file.keys()):
                raise ValueError("its tensors are not those that it lists")
            # Copies: safetensors' own lie in the file, which may change or go.
            tensors = {name: file.get_tensor(name).clone() for name in sums}
    with _damaged(path.name):
        wrong = [name for name, tensor in tensors.items() if _crc32(tensor) != sums[name]]
        if wrong:
            raise ValueError(f"the bytes of {short(', '.join(wrong), 80)} are not those that were written")
        text = about.get("thumbnail")
        picture = None if text is None else thumbnail.as_picture(text)
        return _together(read_json(about["structure"]), tensors), picture


def _require_kind(name: str, about: Mapping[str, str]) -> None:
    """Raises ValueError for a file of another kind, and for one of a version that is yet to come."""
    found = about.get("format")
    if found != FORMAT:
        kind = OTHERS.get(found or "", f"of the format {quoted(found, 60)}" if found else "without a format")
        raise ValueError(
            f"{name} is another kind of file ({kind}), expected a style reference ({FORMAT}). Choose a file"
            " that Save Style Reference wrote."
        )
    version = about.get("version", "")
    if version.isascii() and version.isdigit() and len(version) < 10 and int(version) > VERSION:
        raise ValueError(
            f"{name} is a style reference of version {int(version)}, by Z-SAMB"
            f" {quoted(about.get('pack', 'of unknown version'), 40)}; expected version {VERSION}, which this"
            f" Z-SAMB {__version__} reads. Update Z-SAMB, or save the reference with this one."
        )
    with _damaged(name):
        if version != str(VERSION):
            raise ValueError(f"its version is {quoted(version, 40)}, expected {VERSION}")


@contextmanager
def _damaged(name: str) -> Iterator[None]:
    """Whatever a file with a wrong content makes Python say, as one message that names it."""
    try:
        yield
    except WRONG_CONTENT as error:
        raise ValueError(
            f"{name} is a damaged style reference ({short(error)}), expected it as Save Style Reference wrote"
            " it. Copy it again from where it was whole, or make and save the reference again."
        ) from error


def _crc32(tensor: Tensor) -> int:
    flat = tensor.reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


def _fields(number: int, reference: Reference, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What the file says of a reference; its tensors come into ``tensors``."""
    values = {name: getattr(reference.trajectory, name) for name in PATH}
    values |= {name: getattr(reference, name) for name in (*PROMPTS, *COUNTS)}
    for name in PROMPTS:
        _require_plain(values[name], f"reference {number + 1}: the {name} prompt")
    return {
        name: taken_apart(value, tensors, f"reference {number + 1}: {name}", f"{number}.{name}")
        for name, value in values.items()
    }


def _require_plain(conditioning: Any, what: str) -> None:
    """Raises ValueError for a prompt that carries more than tensors, numbers and texts, by its name."""
    for i, (_, details) in enumerate(conditioning):
        for name, value in details.items():
            try:
                taken_apart(value, {}, name, name)
            except ValueError as error:
                carried = CARRIED.get(name, f"what is called {quoted(name, 40)}")
                raise ValueError(
                    f"{what} carries {carried} in its entry {i + 1} ({short(error)}), expected tensors,"
                    " numbers and texts alone. Make the reference with a prompt without it."
                ) from error


def _together(structure: Any, tensors: Mapping[str, Tensor]) -> StyleReference:
    """Raises ValueError, and other errors, for what is no reference."""
    if not isinstance(structure, list) or not structure:
        raise ValueError("it holds no references")
    return StyleReference(tuple(_reference(i, fields, tensors) for i, fields in enumerate(structure)))


def _reference(number: int, fields: dict[str, Any], tensors: Mapping[str, Tensor]) -> Reference:
    if fields.keys() != set(FIELDS):
        odd = ", ".join(sorted(fields.keys() ^ set(FIELDS)))
        raise ValueError(f"reference {number + 1} lacks, or has too much: {short(odd, 60)}")
    values = {name: put_together(value, tensors) for name, value in fields.items()}
    what = f"reference {number + 1}"
    for name in PROMPTS:
        _require_prompt(values[name], f"{what}: the {name} prompt")
    for name in ("weight", "shift", "scale"):
        if not _is_number(values[name], (float, int)) and (name == "weight" or values[name] is not None):
            raise ValueError(f"{what}: {name} is {quoted(values[name], 40)}, expected a number")
    if not _is_number(values["offset"], int) or not isinstance(values["fresh"], bool):
        raise ValueError(f"{what}: offset or fresh is of another kind")
    mask = values["mask"]
    if mask is not None and not isinstance(mask, Tensor):
        raise ValueError(f"{what}: its mask is none")
    trajectory = _trajectory({name: values[name] for name in PATH}, what)
    return Reference(trajectory, **{name: values[name] for name in (*PROMPTS, *COUNTS)})


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _trajectory(path: dict[str, Any], what: str) -> Trajectory:
    sigmas, points, noise = path["sigmas"], path["points"], path["noise"]
    for name, x, ndim in (("sigmas", sigmas, 1), ("points", points, 4), ("noise", noise, 3)):
        if name == "noise" and x is None:
            continue
        if not isinstance(x, Tensor) or x.ndim != ndim or not x.numel() or not x.is_floating_point():
            raise ValueError(f"{what}: the {name} of its path are {quoted(_shown(x), 60)}")
        require_finite(x, f"{what}: the path's {name}")
    if noise is not None and noise.shape != points.shape[1:]:
        raise ValueError(f"{what}: its path's noise is {_shown(noise)} and its points are {_shown(points)}")
    return Trajectory(**path)


def _require_prompt(conditioning: Any, what: str) -> None:
    """Raises ValueError unless it is a row of (tokens (rows, T, C), details), without NaN or infinity."""
    if not isinstance(conditioning, (list, tuple)) or not conditioning:
        raise ValueError(f"{what} is empty")
    for tokens, details in conditioning:
        if not isinstance(tokens, Tensor) or tokens.ndim != 3 or not tokens.is_floating_point():
            raise ValueError(f"{what} has tokens that are {quoted(_shown(tokens), 60)}")
        if not isinstance(details, dict) or not tokens.numel():
            raise ValueError(f"{what} has no tokens, or no details")
        for x in (tokens, details.get("pooled_output")):
            if x is not None:
                require_finite(x, what)


def _shown(x: Any) -> str:
    kind = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else ""
    return f"{tuple(x.shape)} {kind}" if kind else f"a {type(x).__name__}"
