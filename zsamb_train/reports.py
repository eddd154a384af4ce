"""What tells whether a run works, built from pictures that are kept back: the probe, and the sheets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from zsamb_core.console import say

from .batch import encode, features_of
from .data.buckets import cover, levels
from .data.loader import Rows
from .data.order import Groups
from .data.sample import Source
from .host import Host
from .probe import Probe
from .sheet import Sheet

COLUMNS = 4


def probe_of(host: Host, kind: str, held: Source, resolution: int) -> Probe:
    """Pictures in one square, or of the commonest size of cached latents; with each another one of its style
    group, where all have one.
    """
    chosen, bucket = alike(held, resolution)
    samples = [held.read(int(i), picture=not held.cached) for i in chosen]
    cut = [cover(s.picture, bucket) for s in samples if s.picture is not None]
    if not held.cached:
        samples = [replace(s, crop=crop) for s, (_, crop) in zip(samples, cut, strict=True)]
    pixels = None if held.cached else torch.stack([levels(picture) for picture, _ in cut])
    places = list(range(len(samples)))
    batch = encode(host, kind, Rows(0, bucket, places, samples, samples, pixels))
    groups = Groups(held.groups[chosen])
    others = None
    if groups.alone:
        say(
            f"the probe tells no style from content: {groups.alone} of its {len(chosen)} pictures stand alone"
        )
    else:
        others = batch.features[[groups.next(i) for i in range(len(chosen))]]
    return Probe(host, batch, others, host.no_image(kind, batch.features.shape[-1]))


def alike(held: Source, resolution: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Samples that make one batch, and its (width, height)."""
    if held.latent_sizes is None:
        return np.arange(len(held)), (resolution, resolution)
    sizes, counts = np.unique(held.latent_sizes, axis=0, return_counts=True)
    width, height = sizes[counts.argmax()]
    chosen = np.flatnonzero((held.latent_sizes == (width, height)).all(1))
    return chosen, (int(width), int(height))


def sheet_of(
    host: Host, kind: str, held: Source, resolution: int, rows: int, prompts: Sequence[str] | None
) -> Sheet:
    """A few style pictures that were not trained on, each of another style group if there are groups. Without
    ``prompts`` the captions of the last ones.
    """
    names = np.unique(held.groups)
    members = [np.flatnonzero(held.groups == name) for name in names[:rows]]
    # Not the first of each group: that is the same thing in many sets.
    spread = [m[i % len(m)] for i, m in enumerate(members)] if len(names) > 1 else range(min(rows, len(held)))
    samples = [held.read(int(i)) for i in spread]
    said = [line.strip() for line in prompts or [] if line.strip()] or captions_of(held)
    pictures = [torch.from_numpy(np.array(s.picture, np.float32) / 255) for s in samples]
    features = features_of(host, kind, samples)
    blank = host.no_image(kind, features.shape[-1])
    return Sheet(host, pictures, features, blank, said[:COLUMNS], (resolution, resolution))


def captions_of(held: Source) -> list[str]:
    """Different captions, from the last sample backwards."""
    read = (held.read(i, picture=False, latent=False).caption for i in reversed(range(len(held))))
    return list(dict.fromkeys(caption for caption in read if caption))
