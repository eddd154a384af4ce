"""Encoded style images: one immutable value, and its file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from ..files.safetensors_file import WRONG_CONTENT, opened
from ..files.whole_file import write_new
from ..finite import require_finite
from ..messages import short
from .adapter_file import Projector

# By (channels of the hidden states, channels of the projected embedding).
KNOWN_ENCODERS = {
    (1024, 768): "CLIP ViT-L/14",
    (1280, 1024): "CLIP ViT-H/14",
    (1664, 1280): "CLIP ViT-bigG/14",
}
_NAMES = {"pooled": "the embedding", "hidden": "the hidden states", "blank": "the zero picture's states"}
FILES = {
    "CLIP ViT-H/14": "clip_vision_h.safetensors",
    "CLIP ViT-bigG/14": "clip_vision_g.safetensors",
}


class Encoder(NamedTuple):
    """A CLIP image encoder's numbers: channels of its hidden states, and of its projected embedding, the
    space that it shares with a text encoder.
    """

    hidden: int
    projection: int

    def __str__(self) -> str:
        numbers = f"{self.hidden} hidden, {self.projection} projected channels"
        name = encoder_name(self)
        return f"{name} ({numbers})" if name else f"an encoder of {numbers}"


@dataclass(frozen=True)
class StyleEmbeds:
    """``n`` style images as an encoder sees them.

    ``pooled`` (n, D): projected and not normalized, for base adapters; ``hidden`` (n, L, H): penultimate
    hidden states, for plus adapters, and ``blank`` (L, H), those of a zero picture; ``weights``: what each
    counts. ``changed``: content was taken from ``pooled``, so ``hidden`` no longer says the same.
    """

    encoder: Encoder
    pooled: torch.Tensor
    hidden: torch.Tensor
    blank: torch.Tensor
    weights: tuple[float, ...]
    changed: bool = False

    def __post_init__(self) -> None:
        n = len(self.pooled)
        if self.pooled.shape != (n, self.encoder.projection) or n == 0:
            raise ValueError(
                f"the embeddings are {tuple(self.pooled.shape)}, expected images by {self.encoder.projection}"
            )
        if (
            self.hidden.shape != (n, *self.blank.shape)
            or self.blank.ndim != 2
            or self.blank.shape[1] != self.encoder.hidden
        ):
            raise ValueError(
                f"the hidden states are {tuple(self.hidden.shape)} and those of no image"
                f" {tuple(self.blank.shape)}, expected {n} by tokens by {self.encoder.hidden}, and one such"
            )
        if len(self.weights) != n or any(not 0 <= w < float("inf") for w in self.weights):
            raise ValueError(f"the weights are {short(self.weights)}, expected {n} numbers of 0 or more")
        if not any(self.weights):
            raise ValueError("all weights are 0, expected one image at least that counts")
        for name in ("pooled", "hidden", "blank"):
            require_finite(getattr(self, name), f"{_NAMES[name]} of the style images")

    def joined(self, others: "StyleEmbeds") -> "StyleEmbeds":
        """All images of both. Raises ValueError for another encoder."""
        if others.encoder != self.encoder or others.blank.shape != self.blank.shape:
            raise ValueError(
                f"the images are encoded by {self.encoder}, {len(self.blank)} tokens, and the others by"
                f" {others.encoder}, {len(others.blank)} tokens; expected one encoder. Encode both with it."
            )
        return replace(
            self,
            pooled=torch.cat([others.pooled, self.pooled]),
            hidden=torch.cat([others.hidden, self.hidden]),
            weights=others.weights + self.weights,
            changed=self.changed or others.changed,
        )

    def counted(self) -> "StyleEmbeds":
        """Without the images of weight 0."""
        counting = [i for i, w in enumerate(self.weights) if w > 0]
        return replace(
            self,
            pooled=self.pooled[counting],
            hidden=self.hidden[counting],
            weights=tuple(self.weights[i] for i in counting),
        )

    def _comfy_cache_tensors(self) -> list[torch.Tensor]:
        """What ComfyUI's cache counts when it looks for memory to free."""
        return [self.pooled, self.hidden, self.blank]


def encoder_name(encoder: Any) -> str | None:
    """Of a well-known one."""
    return KNOWN_ENCODERS.get((encoder.hidden, encoder.projection)) if isinstance(encoder, Encoder) else None


def fits(projector: Projector, encoder: Encoder) -> bool:
    """Whether the adapter takes what the encoder gives. Equal numbers are not enough: ViT-H's hidden states
    have as many channels as bigG's embedding.
    """
    channels = encoder.projection if projector.kind == "base" else encoder.hidden
    return channels == projector.features


def refuse_pairing(projector: Projector, encoder: Encoder) -> None:
    """Raises ValueError, by name and numbers, unless the encoder is the one that the adapter was trained
    with.
    """
    if not fits(projector, encoder):
        raise ValueError(
            f"the adapter is made for {wanted(projector)}, and the image encoder is {encoder}. Load the"
            f" encoder it is made for{_file(projector)}, or an adapter made for this encoder."
        )


def wanted(projector: Projector) -> str:
    """The image encoder that an adapter asks for, by name where it is a known one."""
    base, name = projector.kind == "base", _encoder_name(projector)
    numbers = f"{projector.features} {'projected' if base else 'hidden'} channels"
    return f"{name} ({numbers})" if name else f"an encoder of {numbers}" + ("" if base else ", penultimate")


def _encoder_name(projector: Projector) -> str | None:
    place = 1 if projector.kind == "base" else 0
    return next((n for key, n in KNOWN_ENCODERS.items() if key[place] == projector.features), None)


def _file(projector: Projector) -> str:
    name = _encoder_name(projector)
    return f" ({FILES[name]} in models/clip_vision)" if name in FILES else ""


def save_embeds(embeds: StyleEmbeds, places: Path | Iterable[Path]) -> Path:
    """One safetensors file at the first of ``places``, or at the one, that is free; no file is replaced."""
    about = {
        "format": "zsamb_style_embeds",
        "encoder": json.dumps([embeds.encoder.hidden, embeds.encoder.projection]),
        "weights": json.dumps(embeds.weights),
        "changed": json.dumps(embeds.changed),
    }
    tensors = {
        name: getattr(embeds, name).clone(memory_format=torch.contiguous_format)
        for name in ("pooled", "hidden", "blank")
    }
    return write_new(places, lambda path: save_file(tensors, path, about))


def load_embeds(path: Path) -> StyleEmbeds:
    """Raises ValueError for a file that `save_embeds` did not write."""
    try:
        with opened(path) as file:
            about = file.metadata() or {}
            if about.get("format") != "zsamb_style_embeds":
                raise ValueError("its metadata names no zsamb_style_embeds")
            tensors = {n: file.get_tensor(n) for n in ("pooled", "hidden", "blank")}
            if not all(t.is_floating_point() for t in tensors.values()):
                raise ValueError("it holds another kind of numbers than floating point")
            tensors = {n: t.float() for n, t in tensors.items()}
            weights: Sequence[float] = json.loads(about["weights"])
            return StyleEmbeds(
                Encoder(*(int(n) for n in json.loads(about["encoder"]))),
                weights=tuple(float(w) for w in weights),
                changed=bool(json.loads(about["changed"])),
                **tensors,
            )
    except WRONG_CONTENT as error:
        raise ValueError(
            f"{path.name} is not a file of encoded style images ({short(error)}), expected one that Save"
            " Style Embeds wrote."
        ) from error
