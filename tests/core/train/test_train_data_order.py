"""The order in which pictures are seen: bijections, batches of one bucket, partners; and the buckets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from zsamb_train.data.buckets import buckets, cover, fit, nearest
from zsamb_train.data.order import Batches, Groups, Permutation, key_of, rng

ROOT = Path(__file__).resolve().parents[3]
FEW = settings(max_examples=25, deadline=None)


@FEW
@given(some.integers(1, 5000), some.integers(0, 2**64 - 1))
def test_a_permutation_has_each_number_once(n, key):
    assert sorted(Permutation(n, key)[np.arange(n)]) == list(range(n))


def test_a_permutation_of_many_is_looked_up_at_any_place():
    n = 4_000_003
    places = np.array([0, 1, 17, n - 1])
    found = Permutation(n, 5)[places]
    assert ((found >= 0) & (found < n)).all() and len(set(found)) == 4
    assert np.array_equal(Permutation(n, 5)[np.arange(n)][places], found)


def test_every_place_is_as_likely():
    """Chi squared of where the first of five goes, over keys; 18.5 is passed by one in a thousand."""
    first = [int(Permutation(5, key_of("fair", i))[np.array([0])][0]) for i in range(800)]
    counts = np.bincount(first, minlength=5)
    assert ((counts - 160) ** 2 / 160).sum() < 18.5
    pairs = {tuple(Permutation(3, key_of("all", i))[np.arange(3)]) for i in range(100)}
    assert len(pairs) == 6  # all orders of three come up


def test_the_order_is_the_same_in_every_process():
    code = (
        "import numpy as np; from zsamb_train.data.order import Batches, rng;"
        "b = Batches(np.arange(50) % 3, 4, 7); print([b[i].tolist() for i in range(40)], rng(7, 3).random())"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    batches = Batches(np.arange(50) % 3, 4, 7)
    assert outs == {f"{[batches[i].tolist() for i in range(40)]} {rng(7, 3).random()}\n"}


@FEW
@given(some.lists(some.integers(0, 3), min_size=1, max_size=60), some.integers(1, 9), some.integers(0, 2**40))
def test_batches_are_of_one_bucket_and_every_picture_comes_as_often(kinds, size, seed):
    kinds = np.array(kinds, np.int32)
    batches = Batches(kinds, size, seed)
    total = 5 * len(kinds) // size + 1
    counts = np.zeros(len(kinds), int)
    epochs = []
    for b in range(total):
        batch = batches[b]
        assert len(batch) == size and set(kinds[batch]) == {batches.bucket(b)}
        np.add.at(counts, batch, 1)
        epochs.append(batches.epoch(b))
        assert np.array_equal(batches[b], batch)  # asked again
    assert epochs == sorted(epochs) and epochs[0] >= 0
    for kind in np.unique(kinds):  # an epoch's batches are mixed, and may hold the ends of two passes
        assert np.ptp(counts[kinds == kind]) <= 2
        passes = counts[kinds == kind].mean()
        assert abs(passes - total * size / len(kinds)) <= 2 + 2 * size / (kinds == kind).sum()


def test_each_epoch_has_an_order_of_its_own_and_misses_nothing_where_batches_are_whole():
    batches = Batches(np.repeat([2, 5], [24, 16]), 8, 1)
    epochs = [np.concatenate([batches[5 * e + b] for b in range(5)]) for e in range(4)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [batches.epoch(b) for b in range(11)] == [0] * 5 + [1] * 5 + [2]
    orders = {tuple(batches.bucket(5 * e + b) for b in range(5)) for e in range(8)}
    assert len(orders) > 2  # buckets are mixed within an epoch
    assert not np.array_equal(epochs[0], np.concatenate([Batches(batches.counts, 8, 2)[0]] * 5))


def test_a_remainder_begins_the_next_pass():
    batches = Batches(np.zeros(10, int), 4, 3)
    seen = np.concatenate([batches[b] for b in range(5)])
    assert sorted(seen) == sorted([*range(10)] * 2)  # twice each: two passes, of which a batch has both


def test_a_bucket_smaller_than_a_batch_repeats_its_pictures():
    batches = Batches(np.array([0] * 30 + [1]), 4, 3)
    lone = [b for b in range(310) if batches.bucket(b) == 1]
    assert all((batches[b] == 30).all() for b in lone)
    assert 9 <= len(lone) <= 10  # 310 batches are forty epochs, in each of which it is owed one picture
    assert np.array_equal(Batches(np.zeros(1, int), 3, 0)[7], [0, 0, 0])


def test_no_picture_and_no_batch_are_errors():
    with pytest.raises(ValueError, match="0 pictures in batches of 2"):
        Batches(np.zeros(0, int), 2, 0)


def test_who_follows_is_of_the_same_bucket():
    kinds = np.array([0, 1, 0, 1, 1, 0])
    batches = Batches(kinds, 2, 0)
    assert batches.following(1, 3, 16).tolist() == [3, 4, 1]
    assert batches.following(1, 4, 2).tolist() == [4, 1]


def test_partners_are_others_of_the_group_each_as_likely():
    numbers = np.array([1, -1, 0, 1, 1, 0, 2, -1], np.int32)
    groups = Groups(numbers)
    assert groups.alone == 3
    draws = np.random.default_rng(0)
    for i, group in enumerate(numbers):
        found = [groups.partner(i, draws) for _ in range(300)]
        others = {j for j in range(8) if numbers[j] == group and j != i} if group >= 0 else set()
        assert set(found) == (others or {i})
        if len(others) == 2:
            assert 110 < np.bincount(found).max() < 190
    assert [groups.next(i) for i in (0, 3, 4, 1, 6)] == [3, 4, 0, 1, 6]


def test_draws_depend_on_seed_place_and_stream_alone():
    draws = {rng(*key).random() for key in [(1, 2), (2, 1), (1, 2, 1), (1, 3), (-1, 2)]}
    assert len(draws) == 5 and rng(1, 2).random() in draws


def test_buckets_are_those_of_sdxl():
    sides = buckets(1024)
    # Of the table of SDXL's report those that are largest for their aspect, from 1:2 to 2:1.
    assert {(1024, 1024), (896, 1152), (832, 1216), (768, 1344), (704, 1408), (1152, 896)} <= set(sides)
    for resolution, step in ((1024, 64), (512, 64), (768, 32), (128, 16), (64, 64)):
        sides = buckets(resolution, step)
        aspects = [w / h for w, h in sides]
        assert aspects == sorted(set(aspects)) and min(aspects) >= 0.5 and max(aspects) <= 2
        assert all(w * h <= resolution**2 and w % step == h % step == 0 for w, h in sides)
        assert {(h, w) for w, h in sides} == set(sides)
        assert (resolution // step * step,) * 2 in sides


@pytest.mark.parametrize(("resolution", "step"), [(32, 64), (512, 4), (512, 60), (0, 64)])
def test_buckets_that_cannot_be_say_so(resolution, step):
    with pytest.raises(ValueError, match="multiple of 8"):
        buckets(resolution, step)


def test_the_nearest_bucket_is_the_one_of_the_nearest_aspect():
    sides = buckets(512)
    sizes = np.random.default_rng(0).integers(1, 3000, (500, 2)).astype(np.int32)
    by_hand = [
        min(range(len(sides)), key=lambda k: abs(np.log(sides[k][0] / sides[k][1]) - np.log(w / h)))
        for w, h in sizes
    ]
    assert nearest(sizes, sides).tolist() == by_hand
    assert sides[nearest(np.array([[10, 10]]), sides)[0]] == (512, 512)
    assert nearest(np.array([[7, 9]]), [(64, 64)])[0] == 0


@FEW
@given(some.integers(1, 300), some.integers(1, 300), some.sampled_from(buckets(128, 16)))
def test_a_picture_covers_its_bucket(width, height, bucket):
    picture, (top, left) = cover(Image.new("RGB", (width, height)), bucket)
    assert picture.size == bucket and top >= 0 and left >= 0
    assert top == 0 or left == 0  # one side is fitted exactly
    scale = max(bucket[0] / width, bucket[1] / height)
    assert abs(2 * left - max(0, width * scale - bucket[0])) <= 2
    assert abs(2 * top - max(0, height * scale - bucket[1])) <= 2


def test_what_is_cut_is_the_middle_or_drawn():
    pixels = np.zeros((64, 200, 3), np.uint8)
    pixels[..., 0] = np.arange(200)
    picture = Image.fromarray(pixels)
    tensor, crop = fit(picture, (64, 64))
    assert crop == (0, 68) and tensor.shape == (3, 64, 64) and tensor.dtype.is_floating_point
    assert np.allclose(tensor[0, 5].numpy(), np.arange(68, 132) / 127.5 - 1, atol=1e-6)
    assert tensor[1].eq(-1).all()
    crops = set()
    for i in range(200):
        tensor, (top, left) = fit(picture, (64, 64), rng(0, i))
        assert top == 0 and round((float(tensor[0, 0, 0]) + 1) * 127.5) == left
        crops.add(left)
    assert len(crops) > 60 and min(crops) <= 10 and max(crops) >= 126
