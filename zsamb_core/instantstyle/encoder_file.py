"""Which image encoder a file holds, told by the shapes in its header, and which one an adapter needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.safetensors_file import opened
from ..messages import short
from .adapter_file import Projector
from .style_embeds import FILES, Encoder, encoder_name, fits, wanted

# transformers' names, and OpenCLIP's, whose projection stands the other way round.
_SHAPES = (
    ("vision_model.embeddings.class_embedding", "visual_projection.weight", 0),
    ("visual.class_embedding", "visual.proj", 1),
)
_HUB = "https://huggingface.co"
ADDRESSES = {
    "CLIP ViT-H/14": (
        f"{_HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/clip_vision/clip_vision_h.safetensors"
    ),
    "CLIP ViT-bigG/14": f"{_HUB}/comfyanonymous/clip_vision_g/resolve/main/clip_vision_g.safetensors",
}
LISTED = 12  # files in an error


def encoder_in(path: Path) -> Encoder:
    """Of a safetensors file, whose tensors are not read. Raises ValueError that says what it is instead: no
    safetensors, damaged, or no CLIP image encoder with a projection.
    """
    if path.suffix.lower() not in (".safetensors", ".sft"):
        raise ValueError("no safetensors, not looked into")
    with opened(path) as file:
        names = set(file.keys())
        for hidden, projection, place in _SHAPES:
            if hidden in names and projection in names:
                return _encoder(file, hidden, projection, place)
    raise ValueError("no CLIP image encoder with a projection")


def _encoder(file: Any, hidden: str, projection: str, place: int) -> Encoder:
    (*_, channels), shape = (file.get_slice(name).get_shape() for name in (hidden, projection))
    if len(shape) != 2 or shape[1 - place] != channels or 0 in shape:
        raise ValueError(f"its {projection} is {' by '.join(map(str, shape))} for {channels} hidden channels")
    return Encoder(channels, shape[place])


def that_fit(projector: Projector, encoders: Mapping[str, Encoder | str]) -> list[str]:
    """The names of the encoders that the adapter can be used with, those of well-known numbers first. What
    is no encoder is a text that says so.
    """
    names = [name for name, e in encoders.items() if isinstance(e, Encoder) and fits(projector, e)]
    return sorted(names, key=lambda name: encoder_name(encoders[name]) is None)


def nothing_fits(
    adapter: str, projector: Projector, encoders: Mapping[str, Encoder | str], places: str
) -> str:
    """What is missing, in words: what the adapter needs, what was found, and where to get it."""
    found = [f"{short(name)} ({encoder})" for name, encoder in list(encoders.items())[:LISTED]]
    if len(encoders) > LISTED:
        found.append(f"and {len(encoders) - LISTED} more")
    needed = next((name for name in ADDRESSES if name in wanted(projector)), None)
    source = f"Get {FILES[needed]} from {ADDRESSES[needed]}" if needed else "Get that encoder"
    return (
        f"{adapter} is made for {wanted(projector)}, and no image encoder in {places} is one. Found"
        f" {', '.join(found) or 'no file'}. {source}, put it there, and reload the node list (R)."
    )
