"""From samples to what a step is computed on: latents, image features, captions, sizes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .data.loader import Rows
from .data.sample import Sample
from .host import Host


@dataclass
class Batch:
    """``latents`` (n, 4, h, w) in the model's space and ``features`` of each image, on the CPU; ``places``:
    each sample's place in the run. ``names`` are for messages.
    """

    latents: torch.Tensor
    features: torch.Tensor
    captions: list[str]
    sizes: list[tuple[int, int]]
    crops: list[tuple[int, int]]
    targets: list[tuple[int, int]]
    places: list[int]
    names: list[str]

    def __len__(self) -> int:
        return len(self.places)

    def part(self, first: int, last: int) -> "Batch":
        rows = slice(first, last)
        return Batch(
            self.latents[rows], self.features[rows], self.captions[rows], self.sizes[rows], self.crops[rows],
            self.targets[rows], self.places[rows], self.names[rows],
        )  # fmt: skip


def encode(host: Host, kind: str, rows: Rows) -> Batch:
    """Latents and image features of ``rows``: cached ones as they are, others by the host's encoders."""
    if rows.levels is not None:
        latents = host.encode_latents(rows.pixels())
    else:
        latents = torch.stack([s.latent.float() for s in rows.samples if s.latent is not None])
    return Batch(
        latents, features_of(host, kind, rows.references), [s.caption for s in rows.samples],
        [s.size for s in rows.samples], [s.crop for s in rows.samples], [rows.bucket] * len(rows.samples),
        rows.places, [s.name for s in rows.samples],
    )  # fmt: skip


def features_of(host: Host, kind: str, samples: Sequence[Sample]) -> torch.Tensor:
    """What the image encoder gives for each picture, cached (for base adapters) or made now."""
    out = [s.embed if kind == "base" else None for s in samples]
    missing = [i for i, features in enumerate(out) if features is None]
    if missing:
        pictures = [torch.from_numpy(np.array(samples[i].picture, np.float32) / 255) for i in missing]
        for i, features in zip(missing, host.look_at(pictures, kind), strict=True):
            out[i] = features
    return torch.stack([features.float() for features in out if features is not None])
