"""Batches as a run gets them: exact over workers, processes and restarts; references; broken files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.train.data_sets import cached, encoded, folder, pixels, plain, tar
from zsamb_train.data.loader import loader
from zsamb_train.data.order import rng
from zsamb_train.data.references import shrunk, shuffled_crop
from zsamb_train.data.source import open_source

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"step": 16, "tell": print}  # of buckets of 64 px


def taken(rows, count):
    return [each for each, _ in zip(rows, range(count), strict=False)]


def signature(rows):
    """All that a step depends on."""
    tensors = [rows.levels] if rows.levels is not None else [s.latent for s in rows.samples]
    seen = [np.asarray(r.picture).sum() if r.picture else r.embed.sum().item() for r in rows.references]
    names = [s.name for s in rows.samples], [r.name for r in rows.references]
    return rows.number, rows.bucket, rows.places, names, [t.double().sum().item() for t in tensors], seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return open_source(folder(tmp_path_factory.mktemp("pictures"), 14))


def test_rows_hold_what_a_step_wants(pictures):
    found = loader(pictures, 4, 64, "self", 3, **SMALL)
    for rows in taken(found, 8):
        wide, high = rows.bucket
        assert rows.levels.shape == (4, 3, high, wide) and rows.levels.dtype == torch.uint8
        assert rows.pixels().shape == rows.levels.shape and -1 <= rows.pixels().min() < -0.5
        assert rows.places == [4 * rows.number + i for i in range(4)]
        for sample, reference, index in zip(
            rows.samples, rows.references, found.batches[rows.number], strict=True
        ):
            whole = pictures.read(int(index))
            assert sample.name == whole.name == reference.name and sample.caption == whole.caption
            assert sample.picture is None and sample.size == whole.size and min(sample.crop) == 0
            assert np.array_equal(np.asarray(reference.picture), np.asarray(whole.picture))
    assert {rows.bucket for rows in taken(found, 8)} == {(64, 64), (64, 32)}
    assert found.notes == ["9 of 14 pictures are smaller than their bucket and are enlarged"]


@pytest.mark.parametrize("pairs", ["self", "group", "crop"])
def test_workers_and_restarts_change_nothing(pictures, pairs):
    whole = [signature(rows) for rows in loader_of(pictures, pairs, count=7)]
    assert whole == [signature(rows) for rows in loader_of(pictures, pairs, count=7, workers=2)]
    again = [signature(rows) for rows in loader_of(pictures, pairs, count=3, first=4, workers=1)]
    assert again == whole[4:]


def loader_of(source, pairs, count=1, **more):
    return taken(loader(source, 4, 64, pairs, 5, **SMALL, **more), count)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_each_batch(pictures, world):
    whole = loader_of(pictures, "crop", count=4)
    parts = [loader_of(pictures, "crop", count=4, rank=r, world=world) for r in range(world)]
    for b, rows in enumerate(whole):
        assert [p for part in parts for p in part[b].places] == rows.places
        assert torch.equal(torch.cat([part[b].levels for part in parts]), rows.levels)
        seen = [np.asarray(r.picture) for part in parts for r in part[b].references]
        assert all(np.array_equal(a, r.picture) for a, r in zip(seen, rows.references, strict=True))
    with pytest.raises(ValueError, match="expected a multiple"):
        loader(pictures, 4, 64, "self", 5, rank=0, world=3)


def test_group_references_are_others_of_the_group(pictures):
    found = loader_of(pictures, "group", count=20)
    pairs = {(s.name, r.name) for rows in found for s, r in zip(rows.samples, rows.references, strict=True)}
    assert all(one != other and one[:3] == other[:3] for one, other in pairs) and len(pairs) > 40


def test_pictures_kept_out_are_never_seen(pictures):
    kept = np.array([0, 1, 2, 4, 8, 9, 10, 12])
    rows = taken(loader(pictures, 2, 64, "group", 1, kept=kept, **SMALL), 40)
    seen = {s.name for each in rows for s in (*each.samples, *each.references)}
    assert seen == {pictures.read(int(i)).name for i in kept}


def test_a_group_of_one_has_itself_and_that_is_said(tmp_path):
    folder(tmp_path, 5)
    (tmp_path / "g2").mkdir()
    (tmp_path / "g2" / "a.png").write_bytes(encoded(9))
    (tmp_path / "b.png").write_bytes(encoded(8))
    source = open_source(tmp_path)
    found = loader(source, 1, 64, "group", 0, **SMALL)
    assert found.notes[-1].startswith("2 of 7 pictures have no other of their style group")
    alone = [
        r.references[0].name == r.samples[0].name for r in taken(found, 14) if "0" not in r.samples[0].name
    ]
    assert alone == [True] * 4
    for line in ("1 x", "buckets"):
        assert not any(line in note for note in found.notes)
    assert (
        "buckets with fewer pictures than a batch (6) repeat"
        in loader(source, 6, 64, "self", 0, **SMALL).notes[0]
    )


def test_what_does_not_go_together_is_an_error(tmp_path, pictures):
    source = open_source(tar(tmp_path / "0.tar", cached(0) | cached(2)))
    with pytest.raises(ValueError, match="crop needs pictures, and the set has cached embeds"):
        loader(source, 2, 64, "crop", 0)
    with pytest.raises(ValueError, match="kind of adapter needs pictures"):
        loader(source, 2, 64, "self", 0, embeds=False)
    with pytest.raises(ValueError, match="pairs is 'other', expected self, group, crop"):
        loader(pictures, 2, 64, "other", 0)
    with pytest.raises(ValueError, match="style groups of two pictures at least"):
        loader(open_source(folder(tmp_path / "plain", 3, groups=0)), 2, 64, "group", 0)
    with pytest.raises(ValueError, match="multiple of 8"):
        loader(pictures, 2, 32, "self", 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_caches_come_as_they_were_kept(tmp_path, workers):
    source = open_source(tar(tmp_path / "0.tar", {k: v for i in range(9) for k, v in cached(i).items()}))
    found = loader(source, 2, 999, "group", 0, workers=workers)
    for rows in taken(found, 10):
        assert rows.levels is None and rows.bucket in ((64, 64), (128, 64))
        for sample, reference, i in zip(
            rows.samples, rows.references, found.batches[rows.number], strict=True
        ):
            assert torch.equal(sample.latent, source.read(int(i)).latent)
            assert sample.latent.dtype == torch.float16 and sample.crop == (0, int(sample.caption[-1]))
            assert reference.latent is None and reference.picture is None and reference.embed.shape == (16,)
            assert reference.name != sample.name
    with pytest.raises(ValueError, match="latents are cached"):
        rows.pixels()


def test_crops_of_a_picture_beside_its_cache(tmp_path):
    both = {k: v for i in range(4) for k, v in (cached(i) | {f"{i:03}.png": encoded(i)}).items()}
    rows = loader_of(open_source(tar(tmp_path / "0.tar", both)), "crop")[0]
    assert all(s.latent is not None and s.picture is None for s in rows.samples)
    assert all(r.picture.width < 48 and r.embed is None for r in rows.references)
    for pairs in ("self", "group"):
        plain, seen = (loader_of(open_source(tmp_path), pairs, embeds=e)[0] for e in (True, False))
        assert all(r.picture is None and r.embed is not None for r in plain.references)
        assert [r.picture.size for r in seen.references] == [(48, 40)] * 4
        assert [r.name for r in seen.references] == [r.name for r in plain.references]
        assert all(s.picture is None and s.latent is not None for s in seen.samples)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_turns_out_broken_is_replaced_and_told_once(tmp_path, workers):
    for i in range(6):
        place = tmp_path / "g" / f"{i}.jpg"
        place.parent.mkdir(exist_ok=True)
        data = encoded(i, "JPEG", (200, 200))
        place.write_bytes(data[:3000] if i in (2, 3) else data)
    told = []
    found = loader(open_source(tmp_path), 3, 64, "group", 0, step=16, workers=workers, tell=told.append)
    for rows in taken(found, 12):
        wanted = found.batches[rows.number]
        names = [s.name for s in rows.samples]
        assert names == [f"g/{4 if i in (2, 3) else i}.jpg" for i in wanted]
        assert not {r.name for r in rows.references} & {"g/2.jpg", "g/3.jpg"}
    targets = [line for line in told if line.endswith("g/4.jpg takes its place.")]
    assert len(targets) == 2 and len(told) == len(set(told)) <= 8
    assert all("truncated" in line for line in told)


def test_a_set_that_is_gone_ends_the_run(tmp_path):
    source = open_source(folder(tmp_path, 4))
    for place in tmp_path.rglob("*.png"):
        place.unlink()
    with pytest.raises(ValueError, match=r"16 pictures in a row cannot be read.*no such file.*disk"):
        next(iter(loader(source, 2, 64, "self", 0, **SMALL)))


def test_a_reference_that_is_gone_is_replaced_by_the_picture_itself(tmp_path):
    source = open_source(folder(tmp_path, 4))
    (tmp_path / "g0" / "002.png").unlink()
    told = []
    for rows in taken(loader(source, 1, 64, "group", 0, step=16, tell=told.append), 12):
        if rows.samples[0].name == "g0/000.png":
            assert rows.references[0].name == "g0/000.png"
    assert any("As a reference each picture itself takes its place" in line for line in told)


def test_a_shuffled_crop_has_the_patches_of_a_crop():
    whole = np.zeros((80, 120, 3), np.uint8)
    whole[..., 0], whole[..., 1] = np.arange(120), np.arange(80)[:, None]
    shares, mirrored = [], set()
    for i in range(60):
        found = np.asarray(shuffled_crop(Image.fromarray(whole), rng(0, i))).astype(int)
        high, wide = found.shape[:2]
        assert high % 4 == wide % 4 == 0
        shares.append(high * wide / (80 * 120))
        corners = set()
        for y in range(4):
            for x in range(4):
                patch = found[y * high // 4 :, x * wide // 4 :][: high // 4, : wide // 4]
                steps = np.diff(patch[..., 0], axis=1)
                assert len(np.unique(steps)) == 1 and (np.diff(patch[..., 1], axis=0) == 1).all()
                mirrored.add(int(steps[0, 0]))
                corners.add((int(patch[..., 0].min()), int(patch[..., 1].min())))
        left, top = min(x for x, _ in corners), min(y for _, y in corners)
        grid = {(left + x * wide // 4, top + y * high // 4) for x in range(4) for y in range(4)}
        assert corners == grid  # each patch of one crop, once
    assert mirrored == {1, -1} and 0.24 < min(shares) < 0.36 and 0.54 < max(shares) < 0.61
    assert shuffled_crop(Image.new("RGB", (2, 3)), rng(0, 0)).size == (4, 4)


def test_a_shrunk_picture_is_the_same_to_an_encoder():
    """As it is then resized to 224 px by an antialiased bicubic filter, on smooth and on rough pictures."""
    smooth = Image.fromarray(pixels(1, (12, 9))).resize((1200, 900), Image.Resampling.BICUBIC)
    for picture in (smooth, Image.fromarray(pixels(2, (1200, 900)))):
        small = shrunk(picture)
        assert small.size == (683, 512)
        one, other = (
            np.asarray(p.resize((298, 224), Image.Resampling.BICUBIC)).astype(float) for p in (picture, small)
        )
        assert np.abs(one - other).mean() < 2.5 and np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
    same = Image.new("RGB", (900, 512))
    assert shrunk(same) is same


LEFT = """
import sys
from pathlib import Path
from zsamb_train.data.loader import loader
from zsamb_train.data.source import open_source
if __name__ == "__main__":
    rows = iter(loader(open_source(Path(sys.argv[1])), 2, 64, "self", 0, workers=2, step=16))
    next(rows)
    if sys.argv[2] == "term":
        import os, signal
        signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
        os.killpg(0, signal.SIGTERM)
        for _ in range(20):
            next(rows)
        print("went on")
    raise SystemExit(int(sys.argv[2] == "error"))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("how", ["term", "error"])
def test_workers_live_on_when_all_are_asked_to_end_and_end_with_the_run(tmp_path, how):
    """SIGTERM to the whole group, as a cluster's scheduler sends it; and a run that ends without a word."""
    folder(tmp_path, 6)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LEFT, tmp_path, how], cwd=ROOT, capture_output=True, text=True,
        start_new_session=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == (how == "error"), done.stderr
    assert ("went on" in done.stdout) == (how == "term") and "Traceback" not in done.stderr
    assert time.monotonic() - begin < 120


def test_a_loader_goes_to_a_worker_that_starts_anew(tmp_path):
    """By spawn, as on Windows and macOS, and from tars, whose open files are a process's own."""
    import pickle

    source = open_source(tar(tmp_path / "0.tar", {k: v for i in range(6) for k, v in plain(i).items()}))
    found = loader(source, 2, 64, "group", 0, **SMALL)
    first = found.data[3]
    assert signature(pickle.loads(pickle.dumps(found.data))[3]) == signature(first)
