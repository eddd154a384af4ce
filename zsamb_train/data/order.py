"""In which order pictures are seen: a function of the seed and the batch's number, and of nothing else.

So one whole number resumes a run exactly, with any number of processes and workers. The streams of Hugging
Face datasets do not: on resume they skip what stood in the shuffle buffer (`benchmarks/streams.py`).
"""

import hashlib

import numpy as np

ROUNDS, FEWEST_BITS = 6, 6


def key_of(*parts: int | str) -> int:
    """64 bits that depend on all parts, the same on every machine."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def rng(seed: int, position: int, stream: int = 0) -> np.random.Generator:
    """A sample's own draws: ``position`` in the run, counted over all batches; ``stream`` for other ones at
    the same position. Philox is counter-based: nothing is drawn to get there.
    """
    key = np.array([seed % 2**64, position % 2**64], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, stream], np.uint64)))


class Permutation:
    """Of 0 to n - 1, stored nowhere: a Feistel network over the next power of two, keyed by ``key``, and
    walked again from where it leaves the range (Black and Rogaway 2002, "cycle walking").
    """

    def __init__(self, n: int, key: int) -> None:
        self.n = n
        bits = max(FEWEST_BITS, (n - 1).bit_length())
        self.widths = bits // 2, bits - bits // 2  # of the left and the right half
        self.keys = [np.uint64(key_of(key, i)) for i in range(ROUNDS)]

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """int64, of an array of positions."""
        out = self._step(np.asarray(positions, np.uint64))
        while (outside := out >= self.n).any():
            out[outside] = self._step(out[outside])
        found: np.ndarray = out.astype(np.int64)
        return found

    def _step(self, x: np.ndarray) -> np.ndarray:
        (left_bits, right_bits), one = self.widths, np.uint64(1)
        left, right = x >> np.uint64(right_bits), x & ((one << np.uint64(right_bits)) - one)
        for key in self.keys:
            mixed = left ^ (_scrambled(right ^ key) & ((one << np.uint64(left_bits)) - one))
            left, right, left_bits, right_bits = right, mixed, right_bits, left_bits
        found: np.ndarray = (left << np.uint64(right_bits)) | right
        return found


def _scrambled(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: np.ndarray = x ^ (x >> np.uint64(31))
    return out


class Batches:
    """``batches[b]``: the ``batch`` sample numbers of batch b, all of one bucket; b counts without end.

    Each bucket is a stream: one permutation of its pictures after the other. A batch takes the stream's next
    ``batch`` pictures, so a pass's remainder is carried: it begins the bucket's next pass, nothing is dropped
    and nothing drawn more often. After e epochs a bucket of m pictures gave floor(e m / batch) batches; the
    batches of an epoch come in an order of their own. A bucket smaller than a batch comes in some epochs
    alone, and then its batch has its pictures several times.
    """

    def __init__(self, bucket_of: np.ndarray, batch: int, seed: int) -> None:
        if not len(bucket_of) or batch < 1:
            raise ValueError(
                f"{len(bucket_of)} pictures in batches of {batch}: expected at least one of each"
            )
        self.batch, self.seed = batch, seed
        self.members = np.argsort(bucket_of, kind="stable")
        self.kinds, starts, counts = np.unique(bucket_of[self.members], return_index=True, return_counts=True)
        self.starts, self.counts = starts, counts.astype(np.int64)

    def epoch(self, b: int) -> int:
        """Which epoch batch b is in, from 0."""
        low, high = 0, (b + len(self.counts) + 1) * self.batch // int(self.counts.sum()) + 1
        while low < high:  # the first epoch that ends behind b
            middle = (low + high) // 2
            if self._done(middle + 1).sum() > b:
                high = middle
            else:
                low = middle + 1
        return low

    def bucket(self, b: int) -> int:
        """The bucket of batch b, as in ``bucket_of``."""
        return int(self.kinds[self._place(b)[0]])

    def __getitem__(self, b: int) -> np.ndarray:
        k, number = self._place(b)
        count, start = int(self.counts[k]), self.starts[k]
        positions = number * self.batch + np.arange(self.batch)
        passes, within = positions // count, positions % count
        out = np.empty(self.batch, np.int64)
        for one in np.unique(passes):
            key = key_of(self.seed, "pass", int(self.kinds[k]), int(one))
            out[passes == one] = Permutation(count, key)[within[passes == one]]
        found: np.ndarray = self.members[start + out]
        return found

    def following(self, bucket: int, i: int, most: int) -> np.ndarray:
        """Sample i of a bucket, and behind it the bucket's others in the set's order, the first behind the
        last: ``most`` at most.
        """
        k = int(np.searchsorted(self.kinds, bucket))
        count, start = int(self.counts[k]), int(self.starts[k])
        row: np.ndarray = self.members[start : start + count]
        first = int(np.searchsorted(row, i))
        return row[(first + np.arange(min(most, count))) % count]

    def _done(self, epochs: int) -> np.ndarray:
        """How many batches each bucket gave in the first ``epochs``."""
        found: np.ndarray = self.counts * epochs // self.batch
        return found

    def _place(self, b: int) -> tuple[int, int]:
        """(number of the bucket among those there are, number of the batch in its stream) of batch b."""
        epoch = self.epoch(b)
        before = self._done(epoch)
        given = self._done(epoch + 1) - before
        order = Permutation(int(given.sum()), key_of(self.seed, "epoch", epoch))
        slot = int(order[np.array([b - int(before.sum())])][0])
        ends = np.cumsum(given)
        k = int(np.searchsorted(ends, slot, side="right"))
        return k, int(before[k] + slot - (ends[k] - given[k]))


class Groups:
    """Samples by style group, for partners of the same style. ``groups`` (n,) int32, -1 for none."""

    def __init__(self, groups: np.ndarray) -> None:
        self.groups = groups
        self.members = np.argsort(groups, kind="stable").astype(np.int32)
        self.place = np.empty(len(groups), np.int32)  # of each sample among the members
        self.place[self.members] = np.arange(len(groups), dtype=np.int32)
        self.counts = np.bincount(groups[groups >= 0])
        self.starts = np.cumsum(self.counts) - self.counts + int((groups < 0).sum())

    @property
    def alone(self) -> int:
        """How many samples have no partner."""
        return int((self.groups < 0).sum() + (self.counts == 1).sum())

    def partner(self, i: int, rng: np.random.Generator) -> int:
        """Another sample of i's group, each as likely; i itself where there is none."""
        group = int(self.groups[i])
        return (
            i
            if group < 0 or self.counts[group] < 2
            else self._behind(i, 1 + int(rng.integers(self.counts[group] - 1)))
        )

    def next(self, i: int) -> int:
        """The sample behind i in its group, and the first behind the last."""
        return i if self.groups[i] < 0 else self._behind(i, 1)

    def _behind(self, i: int, steps: int) -> int:
        group = int(self.groups[i])
        start, count = int(self.starts[group]), int(self.counts[group])
        return int(self.members[start + (int(self.place[i]) - start + steps) % count])
