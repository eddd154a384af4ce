"""In which order pictures are seen: a function of the seed and the batch's number, and of nothing else.

So one whole number resumes a run exactly, with any number of processes and workers. The streaming readers of
Hugging Face datasets do not: on resume they skip what stood in the shuffle buffer (see `test_train_data_streams`).
"""

import hashlib

import numpy as np

ROUNDS, FEWEST_BITS = 6, 6


def key_of(*parts: int | str) -> int:
    """64 bits that depend on all parts, the same on every machine."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def rng(seed: int, position: int, stream: int = 0) -> np.random.Generator:
    """A sample's own draws: ``position`` in the run, counted over all batches; ``stream`` for independent ones
    at the same position. Philox is counter-based: nothing is drawn to get there.
    """
    key = [seed % 2**64, position % 2**64]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))


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
        return out.astype(np.int64)

    def _step(self, x: np.ndarray) -> np.ndarray:
        (left_bits, right_bits), one = self.widths, np.uint64(1)
        left, right = x >> np.uint64(right_bits), x & ((one << np.uint64(right_bits)) - one)
        for key in self.keys:
            mixed = left ^ (_scrambled(right ^ key) & ((one << np.uint64(left_bits)) - one))
            left, right, left_bits, right_bits = right, mixed, right_bits, left_bits
        return (left << np.uint64(right_bits)) | right


def _scrambled(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Batches:
    """``batches[b]``: the ``batch`` sample numbers of batch b, all of one bucket; b counts from 0 without end.

    Each bucket is a stream: one permutation of its pictures after the other. A batch takes the stream's next
    ``batch`` pictures, so a pass's remainder is carried: it begins the bucket's next pass, nothing is dropped
    and nothing drawn more often. After e epochs a bucket of m pictures gave floor(e m / batch) batches; the
    batches of an epoch come in an order of their own. A bucket smaller than a batch comes in some epochs
    alone, and then its batch has its pictures several times.
    """

    def __init__(self, bucket_of: np.ndarray, batch: int, seed: int) -> None:
        if not len(bucket_of) or batch < 1:
            raise ValueError(f"{len(bucket_of)} pictures in batches of {batch}: expected at least one of each")
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
        return self.members[start + out]

    def _done(self, epochs: int) -> np.ndarray:
        """How many batches each bucket gave in the first ``epochs``."""
        return self.counts * epochs // self.batch

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
        self.members = np.argsort(groups, kind="stable")
        self.place = np.empty(len(groups), np.int64)  # of each sample among the members
        self.place[self.members] = np.arange(len(groups))
        self.starts = np.searchsorted(groups[self.members], groups, side="left")
        self.counts = np.searchsorted(groups[self.members], groups, side="right") - self.starts
        self.counts[groups < 0] = 1

    @property
    def alone(self) -> int:
        """How many samples have no partner."""
        return int((self.counts < 2).sum())

    def partner(self, i: int, rng: np.random.Generator) -> int:
        """Another sample of i's group, each as likely; i itself where there is none."""
        count, start = int(self.counts[i]), int(self.starts[i])
        if count < 2:
            return i
        step = 1 + int(rng.integers(count - 1))
        return int(self.members[start + (int(self.place[i]) - start + step) % count])

    def next(self, i: int) -> int:
        """The sample behind i in its group, and the first behind the last."""
        if self.counts[i] < 2:
            return i
        start = int(self.starts[i])
        return int(self.members[start + (int(self.place[i]) - start + 1) % int(self.counts[i])])
