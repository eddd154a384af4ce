"""Shards in webdataset's form: read, damaged, indexed, written."""

import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.train.data_sets import array, broken_pictures, cached, encoded, pixels, plain, tar
from zsamb_train.data import shard_index
from zsamb_train.data.shard_index import find_index, scan
from zsamb_train.data.shard_writer import ShardWriter, array_bytes
from zsamb_train.data.source import open_source

ROOT = Path(__file__).resolve().parents[3]


def joined(*samples):
    return {name: data for sample in samples for name, data in sample.items()}


def test_pictures_with_json(tmp_path):
    for shard in range(2):
        tar(tmp_path / f"{shard}.tar", joined(*(plain(3 * shard + i) for i in range(3))))
    source = open_source(tmp_path)
    assert len(source) == 6 and source.skipped == source.notes == []
    assert not source.cached and source.pictured and source.latent_sizes is None
    assert source.group_names == ["g0", "g1"] and source.groups.tolist() == [0, 1, 0, 1, 0, 1]
    for i in (4, 0, 5):
        sample = source.read(i)
        assert sample.name == f"{i // 3}.tar/{i:03}" and sample.caption == f"picture {i}"
        assert np.array_equal(np.asarray(sample.picture), pixels(i)) and sample.size == (48, 40)
        assert sample.latent is sample.embed is None
    for pattern in (tmp_path / "*.tar", tmp_path / "[01].tar"):
        assert open_source(pattern).digest == source.digest
    assert len(open_source(tmp_path / "1.tar")) == 3
    again = pickle.loads(pickle.dumps(source))  # as a worker gets it that is started anew
    assert np.array_equal(np.asarray(again.read(4).picture), pixels(4))


def test_caches(tmp_path):
    tar(tmp_path / "0.tar", joined(*(cached(i) for i in range(4))))
    source = open_source(tmp_path)
    assert source.cached and not source.pictured and source.skipped == []
    assert source.latent_sizes.tolist() == [[64, 64], [128, 64]] * 2
    assert source.sizes.tolist() == [[640, 480]] * 4
    sample = source.read(3)
    latent = np.random.default_rng(3).standard_normal((4, 8, 16)).astype(np.float16)
    assert np.array_equal(sample.latent.numpy(), latent) and sample.latent.dtype == torch.float16
    assert sample.embed.shape == (16,) and sample.picture is None
    assert (sample.caption, sample.crop, sample.size) == ("picture 3", (0, 3), (640, 480))
    assert source.read(3, latent=False).latent is None and source.read(3, latent=False).embed is not None


def test_caches_beside_pictures_and_samples_without_them(tmp_path):
    both = {**cached(1), "001.png": encoded(1)}
    source = open_source(tar(tmp_path / "a" / "0.tar", both))
    assert source.cached and source.pictured and source.read(0).picture is not None
    assert source.sizes.tolist() == [[640, 480]]  # the original's
    source = open_source(tar(tmp_path / "b" / "0.tar", joined(both, plain(2), cached(3))))
    assert not source.cached and len(source) == 2
    assert source.skipped == ["0.tar/003: no picture, and others of the set have no caches"]
    assert source.notes == ["2 samples have latents and embeds, and others none: caches are not used"]
    assert [source.read(i).caption for i in range(2)] == ["picture 1", "picture 2"]


def test_names_of_every_kind(tmp_path):
    long = "f" * 90 + "/" + "n" * 120
    texts = {
        f"{long}.jpg": encoded(0, "JPEG"),
        f"{long}.txt": b"long",
        "./a/b.PNG": encoded(1),
        "a/b.txt": b"b",
    }
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        source = open_source(tar(tmp_path / str(kind) / "0.tar", texts, kind))
        assert [source.read(i).name for i in range(2)][0] == f"0.tar/{long}"
        assert source.read(0).caption == "long"
        assert not source.skipped
    # A file on the way out is a name and no more: nothing is ever written.
    source = open_source(tar(tmp_path / "odd" / "0.tar", {"../../up.png": encoded(2), "../../up.txt": b"up"}))
    assert source.read(0).caption == "up" and not (tmp_path / "up.png").exists()
    source = open_source(tar(tmp_path / "json" / "0.tar", {**plain(1), "001.txt": b"text wins"}))
    assert source.read(0).caption == "text wins" and source.group_names == ["g1"]


def test_samples_that_are_none_are_left_out_with_the_reason(tmp_path):
    bad = {
        "j.png": encoded(1), "j.json": b"[1]", "k.png": encoded(1), "k.json": b"{", "l.txt": b"alone",
        "m.latent.npy": array(1, 3, 8, 8), "n.latent.npy": array(1, 4, 8, 8)[:-1], "o.latent.npy": b"none",
        "p.latent.npy": array(1, 4, 8, 8, dtype=float), "q.embed.npy": array(1, 2, 2), "q.png": encoded(1),
        "r.png": encoded(1), "r.json": b'{"crop": [1]}', "s.png": encoded(1), "s.json": b" " * 2_000_000,
    }  # fmt: skip
    files = {f"{name}.jpg": data for name, (data, _) in broken_pictures().items()}
    files["object.latent.npy"] = pickled_array()
    source = open_source(tar(tmp_path / "0.tar", {**files, **bad, **plain(1)}))
    assert len(source) == 1 and source.read(0).caption == "picture 1"
    said = dict(line.removeprefix("0.tar/").split(": ", 1) for line in source.skipped)
    assert set(said) == {name.partition(".")[0] for name in (files | bad)}
    reasons = {
        "j": "a list, expected an object", "k": "JSON cannot be read", "l": "neither a picture nor a latent",
        "m": "expected (4, height, width)", "n": "cut off", "o": "cannot be read", "p": "expected float16",
        "q": "expected (features,)", "r": "expected [top, left]", "s": "1048576 at most", "object": "float16",
    }  # fmt: skip
    assert all(why in said[name] for name, why in reasons.items()), said


def pickled_array():
    import io

    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], object), allow_pickle=True)
    return out.getvalue()


def test_damage_is_told_and_the_rest_is_kept(tmp_path):
    whole = tar(tmp_path / "0.tar", joined(*(plain(i) for i in range(6)))).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as file:
        places = {member.name: member.offset for member in file}

    def opened(data):
        (tmp_path / "0.tar").write_bytes(data)
        source = open_source(tmp_path)
        return [source.read(i).caption[-1] for i in range(len(source))], source.skipped

    header = places["002.png"]
    said, skipped = opened(whole[:header] + b"\xff" * 700 + whole[header + 700 :])
    assert said == list("01345")
    assert skipped == ["0.tar/002: neither a picture nor a latent", f"0.tar: damaged at byte {header}"]
    said, skipped = opened(whole[: places["005.png"] + 700])
    assert said == list("01234") and skipped == ["0.tar: 005.png is cut off"] or "end" in skipped[-1]
    said, skipped = opened(whole[: places["003.png"]])
    assert said == list("012") and "without the mark of its end" in skipped[0]
    assert opened(whole + whole)[0] == list("012345") * 2  # two tars in a row
    with pytest.raises(ValueError, match="none of its 1 tars has a sample.*damaged at byte 0"):
        opened(b"\x01" * 4000)
    with pytest.raises(ValueError, match="none of its 1 tars"):
        opened(b"")


def test_one_bad_tar_of_many_costs_only_itself(tmp_path):
    tar(tmp_path / "0.tar", plain(0))
    (tmp_path / "1.tar").write_bytes(b"no tar" * 300)
    (tmp_path / "2.tar").symlink_to(tmp_path / "gone")
    tar(tmp_path / "3.tar", plain(3))
    source = open_source(tmp_path)
    assert [source.read(i).caption for i in range(2)] == ["picture 0", "picture 3"]
    assert source.skipped[0] == "1.tar: damaged at byte 0"
    assert any(line.startswith("2.tar: cannot be read") for line in source.skipped)


def test_values_that_are_no_numbers_and_other_encoders(tmp_path):
    wrong = np.full((4, 8, 8), np.nan)
    files = {**cached(0), "000.latent.npy": array_bytes(wrong)}
    source = open_source(tar(tmp_path / "a" / "0.tar", files))
    with pytest.raises(ValueError, match="0.tar/000: its latent has values that are not numbers"):
        source.read(0)
    with pytest.raises(ValueError, match="16 and 32 features, expected those of one encoder"):
        open_source(tar(tmp_path / "b" / "0.tar", joined(cached(0), cached(1, features=32))))
    with pytest.raises(ValueError, match="a latent without embed"):
        open_source(tar(tmp_path / "c" / "0.tar", {"0.latent.npy": array(0, 4, 8, 8)}))


def test_an_index_is_kept_and_made_anew_when_the_tar_changes(tmp_path, monkeypatch):
    shard = tar(tmp_path / "0.tar", plain(0))
    first = open_source(tmp_path)
    kept = tmp_path / "0.tar.index.npz"
    assert kept.is_file()
    monkeypatch.setattr(shard_index, "scan", lambda _: pytest.fail("the tar is read again"))
    again = open_source(tmp_path)
    assert again.digest == first.digest and again.read(0).caption == "picture 0"
    monkeypatch.undo()
    tar(shard, joined(plain(0), plain(1)))
    assert len(open_source(tmp_path)) == 2
    for harm in (b"", b"PK\x03\x04 nothing", kept.read_bytes()[:200]):
        kept.write_bytes(harm)
        assert len(open_source(tmp_path)) == 2
    index = scan(shard)
    index.bytes += np.uint32(1 << 30)  # an index that leads out of the tar is not believed
    stat = shard.stat()
    shard_index._write(kept, index, json.dumps([shard_index.VERSION, stat.st_size, stat.st_mtime_ns]))
    assert (find_index(shard).bytes < 1 << 20).all()


def test_an_index_goes_elsewhere_where_the_folder_takes_none(tmp_path, monkeypatch):
    tar(tmp_path / "set" / "0.tar", plain(0))
    write = shard_index.write_over

    def refuse(place, how):
        if place.parent == tmp_path / "set":
            raise PermissionError("read only")
        write(place, how)

    monkeypatch.setattr(shard_index, "write_over", refuse)
    open_source(tmp_path / "set", cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1 and len(list((tmp_path / "set").iterdir())) == 1
    monkeypatch.setattr(shard_index, "scan", lambda _: pytest.fail("the tar is read again"))
    assert len(open_source(tmp_path / "set", cache=tmp_path / "cache")) == 1
    monkeypatch.undo()
    monkeypatch.setattr(shard_index, "write_over", refuse)
    assert len(open_source(tmp_path / "set")) == 1  # without a place it is read each time


def test_a_tar_that_becomes_shorter_is_an_error(tmp_path):
    shard = tar(tmp_path / "0.tar", joined(plain(0), plain(1)))
    source = open_source(tmp_path)
    os.truncate(shard, 1000)
    with pytest.raises(ValueError, match=r"0\.tar/.*became shorter"):
        source.read(1)


def test_progress_is_told(tmp_path):
    for i in range(3):
        tar(tmp_path / f"{i}.tar", plain(i))
    told = []
    open_source(tmp_path, progress=lambda *step: told.append(step))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def fields(i):
    return {"txt": f"picture {i}".encode(), "png": encoded(i)}


def test_shards_are_written_and_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, 3) as writer:
        for i in range(8):
            if i == 7:
                raise KeyboardInterrupt
            writer.add(f"{i:04}", fields(i))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shard-000000.tar", "shard-000001.tar"]
    with ShardWriter(tmp_path, 3) as writer:
        assert [writer.done(f"{i:04}") for i in range(8)] == [True] * 6 + [False] * 2
        with pytest.raises(ValueError, match="'0003' is in a shard already"):
            writer.add("0003", fields(3))
        for i in (6, 7):
            writer.add(f"{i:04}", fields(i))
        assert writer.done("0007")
    assert len(list(tmp_path.iterdir())) == 3  # the last is short
    with ShardWriter(tmp_path, 3) as writer:
        writer.add("0008", fields(8))
    source = open_source(tmp_path)
    assert [source.read(i).caption for i in range(9)] == [f"picture {i}" for i in range(9)]
    assert source.skipped == []


def test_processes_write_side_by_side_under_their_own_names(tmp_path):
    with ShardWriter(tmp_path, 2, "p0") as one, ShardWriter(tmp_path, 2, "p1") as other:
        for i in range(4):
            (one, other)[i % 2].add(f"{i}", fields(i))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p0-000000.tar", "p1-000000.tar"]
    assert ShardWriter(tmp_path, 2, "p0").done("1") and len(open_source(tmp_path)) == 4
    for key in ("", "a.b", "a/b", "a\n"):
        with pytest.raises(ValueError, match="cannot name a sample"):
            ShardWriter(tmp_path, 2, "p2").add(key, {})
    with pytest.raises(ValueError, match="expected at least 1"):
        ShardWriter(tmp_path, 0)


KILLED = """
import sys, os, signal
from pathlib import Path
from zsamb_train.data.shard_writer import ShardWriter
with ShardWriter(Path(sys.argv[1]), 2) as writer:
    for i in range(5):
        if i == 4:
            write = writer._write
            def half(place):
                place.write_bytes(b"half a tar")
                os.kill(os.getpid(), signal.SIGKILL)
            writer._write = half
        writer.add(str(i), {"txt": b"x"})
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_writer_leaves_whole_tars_alone(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert sorted(p.name for p in tmp_path.glob("*.tar")) == ["shard-000000.tar", "shard-000001.tar"]
    assert [ShardWriter(tmp_path, 2).done(str(i)) for i in range(5)] == [True] * 4 + [False]


MEMORY = """
import sys, tracemalloc
from pathlib import Path
from zsamb_train.data.source import open_source
import numpy as np
open_source(Path(sys.argv[1]))  # whatever is imported and kept once
tracemalloc.start()
source = open_source(Path(sys.argv[2]))
held = tracemalloc.get_traced_memory()[0] / len(source)
for i in range(400):
    source.read(i)
early = tracemalloc.get_traced_memory()[0]
for i in range(400, len(source), 3):
    source.read(i)
print(len(source), held, tracemalloc.get_traced_memory()[0] - early)
"""


@pytest.mark.slow
def test_ten_thousand_pictures_take_no_more_memory_than_their_index(tmp_path):
    """In a process of its own: 61 bytes a sample, and nothing grows as they are read."""
    picture = encoded(0, "JPEG", (16, 16))
    for shard in range(10):
        members = {}
        for i in range(1000):
            members |= {f"{shard}{i:04}.jpg": picture, f"{shard}{i:04}.txt": b"a caption"}
        tar(tmp_path / "set" / f"{shard}.tar", members)
    tar(tmp_path / "small" / "0.tar", members)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "small", tmp_path / "set"], cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, held, grown = map(float, done.stdout.split())
    assert count == 10_000 and 50 < held < 90 and grown < 300_000
