"""Batches out of worker processes: the order depends neither on their number nor on where a run begins."""

import atexit
import signal
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from zsamb_core.console import say

from .buckets import Size, buckets, cover, in_range, levels, nearest
from .order import Batches, Groups, rng
from .references import PAIRS, shrunk, shuffled_crop
from .sample import Sample, Source

DATA = 1  # the stream of draws that the data take; a trainer's own are of another
TRIES = 16  # pictures that may be broken in a row
ENDLESS = 2**60
GRACE = 30  # seconds that a worker lives on after SIGTERM


@dataclass(frozen=True)
class Rows:
    """This process's rows of batch ``number``. ``bucket``: (width, height). ``places``: each row's position
    in the run, for draws of its own. ``levels`` (n, 3, height, width) uint8 of the pictures, None where
    latents are cached; ``samples`` have their captions, sizes, crops and latents, and no picture.
    ``references``: the style picture of each row, of 512 px, or its embed. ``told``: what was replaced.
    """

    number: int
    bucket: Size
    places: list[int]
    samples: list[Sample]
    references: list[Sample]
    levels: torch.Tensor | None
    told: tuple[str, ...] = ()

    def pixels(self) -> torch.Tensor:
        """(n, 3, height, width) from -1 to 1. Raises ValueError where latents are cached."""
        if self.levels is None:
            raise ValueError("latents are cached, so no pixels are read")
        return in_range(self.levels)


class BatchData(Dataset[Any]):
    """Batches by number. A picture that turns out broken is replaced by the next one of its bucket, in the
    order of the set; a broken reference by the next one of its group, and then by the picture itself.
    """

    def __init__(
        self, source: Source, kept: np.ndarray, batches: Batches, sides: list[Size], groups: Groups,
        pairs: str, embeds: bool, rank: int, world: int,
    ) -> None:  # fmt: skip
        self.source, self.batches, self.sides, self.groups = source, batches, sides, groups
        self.kept, self.pairs, self.seed = kept, pairs, batches.seed
        self.shown = not source.cached or not embeds  # whether references are pictures
        self.rows = batches.batch // world
        self.first = self.rows * rank

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> Rows:
        bucket = self.batches.bucket(number)
        side = self.sides[bucket]
        mine = self.batches[number][self.first : self.first + self.rows]
        places = [number * self.batches.batch + self.first + i for i in range(self.rows)]
        told: list[str] = []
        samples, references, pixels = [], [], []
        for place, i in zip(places, map(int, mine), strict=True):
            draws = rng(self.seed, place, DATA)
            sample, i = self._target(bucket, i, told)
            reference = self._reference(sample, i, draws, told)
            if sample.latent is None:
                assert sample.picture is not None
                cut, crop = cover(sample.picture, side)
                pixels.append(levels(cut))
                sample = replace(sample, crop=crop)
            samples.append(replace(sample, picture=None))
            references.append(reference)
        stacked = torch.stack(pixels) if pixels else None
        return Rows(number, side, places, samples, references, stacked, tuple(told))

    def _target(self, bucket: int, i: int, told: list[str]) -> tuple[Sample, int]:
        """Sample i of those kept, or the next of its bucket that can be read, and its number."""
        shown = self.shown or self.pairs == "crop"
        wrong = ""
        for j in map(int, self.batches.following(bucket, i, TRIES)):
            try:
                sample = self.source.read(int(self.kept[j]), picture=shown)
            except ValueError as error:
                wrong = wrong or str(error)
                continue
            if wrong:
                told.append(f"{wrong}. {sample.name} takes its place.")
            return sample, j
        raise ValueError(
            f"up to {TRIES} pictures in a row cannot be read; the first: {wrong}."
            " Look whether the disk is there, and take out what is broken."
        )

    def _reference(self, sample: Sample, i: int, draws: np.random.Generator, told: list[str]) -> Sample:
        if self.pairs == "group":
            other = self._partner(i, draws, told)
            if other is not None:
                sample = other
        elif self.pairs == "crop":
            assert sample.picture is not None
            return replace(sample, picture=shuffled_crop(sample.picture, draws), embed=None, latent=None)
        shown = None if sample.picture is None else shrunk(sample.picture)
        return replace(sample, picture=shown, latent=None)

    def _partner(self, i: int, draws: np.random.Generator, told: list[str]) -> Sample | None:
        j, wrong = self.groups.partner(i, draws), ""
        for _ in range(TRIES):
            if j == i:
                break
            try:
                other = self.source.read(int(self.kept[j]), picture=self.shown, latent=False)
            except ValueError as error:
                wrong = wrong or str(error)
                j = self.groups.next(j)
                continue
            if wrong:
                told.append(f"{wrong}. {other.name} takes its place as a reference.")
            return other
        if wrong:
            told.append(f"{wrong}. As a reference each picture itself takes its place.")
        return None


class Loader:
    """What `loader` returns: iterate over it for batches without end. ``batches``: their order; ``notes``:
    what is there but may not be meant.
    """

    def __init__(self, data: BatchData, first: int, workers: int, tell: Callable[[str], None]) -> None:
        self.data, self.first, self.workers, self.tell = data, first, workers, tell
        self.batches = data.batches
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Rows]:
        rows = self._rows()
        # Before Python joins what processes there are: it would wait for workers that nobody told to end.
        atexit.register(_close, weakref.ref(rows))
        return rows

    def _rows(self) -> Generator[Rows, None, None]:
        """Each line that a worker has to tell is told once."""
        told: set[str] = set()
        sent: Any = _sent  # of one batch as it is, where a list of samples is the usual
        reader: DataLoader[Any] = DataLoader(
            self.data,
            batch_size=None,
            sampler=range(self.first, ENDLESS),
            num_workers=self.workers,
            collate_fn=sent,
            worker_init_fn=_begin if self.workers else None,
        )
        for rows, arrays in reader:
            for line in rows.told:
                if line not in told:
                    told.add(line)
                    self.tell(line)
            yield _received(rows, arrays)


def loader(
    source: Source,
    batch: int,
    resolution: int,
    pairs: str,
    seed: int,
    *,
    first: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    kept: np.ndarray | None = None,
    embeds: bool = True,
    step: int = 64,
    tell: Callable[[str], None] = say,
) -> Loader:
    """Batches of ``batch`` pictures over all of ``world`` processes, from number ``first`` on, of which this
    one, ``rank``, gets its rows. ``resolution``, ``step``: of the buckets, in pixels. ``kept``: indices that
    are trained on, else all. ``embeds``: False where an adapter looks at pictures, though embeds are cached.
    Raises ValueError for what does not go together.
    """
    if pairs not in PAIRS:
        raise ValueError(f"pairs is {pairs!r}, expected {', '.join(PAIRS)}")
    if batch < 1 or batch % world:
        raise ValueError(f"batches of {batch} for {world} processes: expected a multiple of their number")
    if (pairs == "crop" or not embeds) and not source.pictured:
        what = "pairs crop" if pairs == "crop" else "this kind of adapter"
        raise ValueError(f"{what} needs pictures, and the set has cached embeds alone. Give the pictures.")
    kept = np.arange(len(source)) if kept is None else np.asarray(kept)
    groups = Groups(source.groups[kept])
    if pairs == "group" and groups.alone == len(kept):
        raise ValueError(
            "pairs group needs style groups of two pictures at least, and the set has none. Put the pictures"
            " of a style into a subfolder, or give each a group."
        )
    if source.latent_sizes is not None:
        shapes, kinds = np.unique(source.latent_sizes[kept], axis=0, return_inverse=True)
        sides, kinds = [(int(w), int(h)) for w, h in shapes], kinds.reshape(-1)
    else:
        sides = buckets(resolution, step)
        kinds = nearest(source.sizes[kept], sides)
    batches = Batches(kinds, batch, seed)
    out = Loader(
        BatchData(source, kept, batches, sides, groups, pairs, embeds, rank, world), first, workers, tell
    )
    out.notes = [*_notes(source, kept, batches, sides, kinds), *_alone(groups, pairs)]
    return out


def _notes(
    source: Source, kept: np.ndarray, batches: Batches, sides: list[Size], kinds: np.ndarray
) -> Iterator[str]:
    few = batches.counts < batches.batch
    if few.any():
        some = zip(batches.kinds[few], batches.counts[few], strict=True)
        listed = ", ".join(f"{sides[k][0]} x {sides[k][1]} with {n}" for k, n in some)
        yield f"buckets with fewer pictures than a batch ({batches.batch}) repeat them in it: {listed}"
    if source.latent_sizes is None:
        small = (source.sizes[kept] < np.array(sides)[kinds]).any(1)
        if small.any():
            yield f"{int(small.sum())} of {len(kept)} pictures are smaller than their bucket and are enlarged"


def _alone(groups: Groups, pairs: str) -> Iterator[str]:
    if pairs == "group" and groups.alone:
        yield (
            f"{groups.alone} of {len(groups.groups)} pictures have no other of their style group: their"
            " reference is the picture itself"
        )


def _close(rows: "weakref.ref[Generator[Rows, None, None]]") -> None:
    if (left := rows()) is not None:
        left.close()


Arrays = list[list["np.ndarray | None"]]


def _sent(rows: Rows) -> tuple[Rows, Arrays]:
    """With the samples' tensors as arrays, which are copied into a pipe: each tensor that a worker hands over
    takes an open file, and a system's usual limit is 1024.
    """
    samples, references = rows.samples, rows.references
    tensors = [[s.latent for s in samples], [s.embed for s in samples], [r.embed for r in references]]
    samples = [replace(s, latent=None, embed=None) for s in samples]
    references = [replace(r, embed=None) for r in references]
    arrays = [[None if t is None else t.numpy() for t in row] for row in tensors]
    return replace(rows, samples=samples, references=references), arrays


def _received(rows: Rows, arrays: Arrays) -> Rows:
    latents, embeds, seen = ([None if a is None else torch.from_numpy(a) for a in row] for row in arrays)
    samples = [replace(s, latent=x, embed=e) for s, x, e in zip(rows.samples, latents, embeds, strict=True)]
    references = [replace(r, embed=e) for r, e in zip(rows.references, seen, strict=True)]
    return replace(rows, samples=samples, references=references)


def _begin(_: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach all processes. The run still wants its batch then, and ends its
    workers itself; one that is forgotten ends after a while.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
