"""Pictures that are kept for the probe and never trained on, and a set without them."""

import numpy as np

from .data.order import Permutation, key_of
from .data.sample import Sample, Source

PICTURES, OF_EACH = 20, 4
FEWEST, FEWEST_GROUPS = 200, 20  # smaller sets keep nothing back


class Part:
    """Some samples of a source, as a source."""

    def __init__(self, source: Source, chosen: np.ndarray) -> None:
        self.source, self.chosen = source, chosen
        self.sizes, self.groups = source.sizes[chosen], source.groups[chosen]
        self.group_names, self.digest = source.group_names, source.digest
        self.cached, self.pictured = source.cached, source.pictured
        self.latent_sizes = None if source.latent_sizes is None else source.latent_sizes[chosen]
        self.skipped, self.notes = source.skipped, source.notes

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, i: int, *, picture: bool = True, latent: bool = True) -> Sample:
        return self.source.read(int(self.chosen[i]), picture=picture, latent=latent)


def split(source: Source, seed: int, pictures: int = PICTURES) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples to train on and to probe; they overlap for small sets.

    Of a set with style groups whole groups are kept back, so that the probe's styles are new; four pictures
    of each are probed. Of a set without, single pictures.
    """
    everything = np.arange(len(source))
    counts = np.bincount(source.groups[source.groups >= 0])
    grouped = np.flatnonzero(counts > 1)
    if len(grouped):
        order = Permutation(len(grouped), key_of(seed, "held out"))[np.arange(len(grouped))]
        few = len(grouped) < FEWEST_GROUPS
        kept_back = grouped[order[: max(pictures // OF_EACH, 1)]]
        probed = np.concatenate([np.flatnonzero(source.groups == g)[:OF_EACH] for g in kept_back])
        return everything if few else everything[~np.isin(source.groups, kept_back)], probed
    order = Permutation(len(source), key_of(seed, "held out"))[everything[:pictures]]
    return everything if len(source) < FEWEST else np.setdiff1d(everything, order), np.sort(order)
