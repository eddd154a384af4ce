"""Folders and lists of pictures: what is found, what is left out, and what is said."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.core.train.data_sets import broken_pictures, encoded, folder, pixels
from zsamb_train.data.packed import Packed
from zsamb_train.data.pictures import read_rgb, size_of
from zsamb_train.data.source import open_source


def test_a_folder_with_captions_and_subfolders_as_groups(tmp_path):
    source = open_source(folder(tmp_path))
    assert len(source) == 8 and source.skipped == source.notes == []
    assert source.group_names == ["g0", "g1"] and source.groups.tolist() == [0] * 4 + [1] * 4
    assert source.groups.dtype == source.sizes.dtype == np.int32
    assert not source.cached and source.pictured and source.latent_sizes is None
    names = [source.read(i).name for i in range(8)]
    assert names == sorted(names) and names[5] == "g1/003.png"
    sample = source.read(5)
    assert sample.caption == "picture 3" and sample.size == (80, 40) == tuple(source.sizes[5])
    assert np.array_equal(np.asarray(sample.picture), pixels(3, (80, 40)))
    assert replace(sample, picture=None) == source.read(5, picture=False)
    assert sample.latent is sample.embed is None and sample.crop == (0, 0)


def test_pictures_beside_the_subfolders_have_no_group(tmp_path):
    folder(tmp_path, 2, groups=0)
    folder(tmp_path / "deep" / "er", 1, groups=0)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.png").write_bytes(encoded(0))
    (tmp_path / "._001.png").write_bytes(b"resource fork")
    os.symlink(tmp_path, tmp_path / "deep" / "loop", target_is_directory=True)
    source = open_source(tmp_path)
    assert source.groups.tolist() == [-1, -1, 0] and source.group_names == ["deep/er"]
    assert source.skipped == []


def test_captions_that_are_missing_are_told_and_bad_ones_left_out(tmp_path):
    folder(tmp_path, 4, groups=0)
    (tmp_path / "000.txt").unlink()
    (tmp_path / "001.txt").write_bytes(b"\xff\xfe" + " wide ".encode("utf-16-le"))
    (tmp_path / "002.txt").write_bytes(b"caf\xe9")
    (tmp_path / "003.txt").write_bytes(b"x" * 70_000)
    source = open_source(tmp_path)
    assert [source.read(i).caption for i in range(2)] == ["", "wide"]
    assert source.notes == ["1 of 2 pictures have no caption: theirs is empty"]
    assert len(source.skipped) == 2
    assert "002.png: its caption 002.txt" in source.skipped[0] and "UTF-8" in source.skipped[0]
    assert "more than 64 KB" in source.skipped[1]


def test_broken_pictures_are_left_out_with_the_reason(tmp_path):
    folder(tmp_path, 2, groups=0)
    for name, (data, _) in broken_pictures().items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    source = open_source(tmp_path)
    assert len(source) == 2
    said = dict(line.split(".jpg: ") for line in source.skipped if ".jpg" in line)
    assert set(said) == set(broken_pictures())
    for name, (_, why) in broken_pictures().items():
        assert why in said[name] and "0x" not in said[name], said[name]
    assert "gone.png: there is no such file" in source.skipped


def test_a_set_with_none_left_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no picture that can be used.*a.png: the file is empty.*\.jpg"):
        open_source(tmp_path)


def test_pixels_that_turn_out_broken_are_an_error_with_the_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(1, "JPEG", (200, 200))[:3000])
    source = open_source(tmp_path)
    assert len(source) == 1 and source.read(0, picture=False).size == (200, 200)
    with pytest.raises(ValueError, match=r"^a\.jpg: .*truncated"):
        source.read(0)


def test_metadata_lines(tmp_path):
    folder(tmp_path, 4, groups=0)
    lines = [
        {"file_name": "000.png", "text": " one ", "group": "oil"},
        {"file_name": "001.png", "caption": "two", "style": 3},
        {"file_name": "absent.png", "text": "x"},
        {"text": "no file"},
        {"file_name": "002.png", "text": ["a"]},
        {"file_name": "003.png"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n\n{broken\n"
    (tmp_path / "metadata.jsonl").write_text(text)
    source = open_source(tmp_path)
    assert [source.read(i).caption for i in range(len(source))] == ["one", "two", ""]
    assert source.group_names == ["oil", "3"] and source.groups.tolist() == [0, 1, -1]
    assert len(source.skipped) == 4 and source.skipped[0] == "absent.png: there is no such file"
    assert "line 4" in source.skipped[1] and "line 5" in source.skipped[2] and "line 8" in source.skipped[3]
    assert open_source(tmp_path / "metadata.jsonl").digest == source.digest


def test_the_published_list(tmp_path):
    folder(tmp_path / "pictures", 3)
    items = [{"image_file": f"g{i % 2}/{i:03}.png", "text": f"text {i}"} for i in range(3)]
    (tmp_path / "data.json").write_text(json.dumps(items))
    source = open_source(tmp_path / "data.json", tmp_path / "pictures")
    assert [source.read(i).caption for i in range(3)] == ["text 0", "text 1", "text 2"]
    assert (source.groups == -1).all()
    with pytest.raises(ValueError, match="no picture that can be used.*no such file"):
        open_source(tmp_path / "data.json")
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        open_source(tmp_path / "data.json", tmp_path / "nowhere")
    for text, why in (
        ("[1]", "item 1"),
        ("{}", "is a dict, expected a list"),
        ("[", "cannot be read as JSON"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=why):
            open_source(tmp_path / "bad.json")


def test_what_is_no_set_is_an_error_that_says_what_one_is(tmp_path):
    with pytest.raises(ValueError, match="there is no .*absent, expected a folder of pictures"):
        open_source(tmp_path / "absent")
    with pytest.raises(ValueError, match="0 files and no pictures, expected a folder of pictures"):
        open_source(tmp_path)
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.tar\.gz is compressed: unpack it"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match=r"a\.tar\.gz is no set of pictures"):
        open_source(tmp_path / "a.tar.gz")
    folder(tmp_path, 2)
    with pytest.raises(ValueError, match="for a .json list alone"):
        open_source(tmp_path, tmp_path)
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="1 .tar files and 2 picture files, expected files of one kind"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="finds 1 files, expected .tar or .parquet"):
        open_source(tmp_path / "*.gz")


def test_the_digest_is_of_the_data_and_not_of_their_place(tmp_path):
    one, two = open_source(folder(tmp_path / "a")), open_source(folder(tmp_path / "b"))
    assert one.digest == two.digest
    (tmp_path / "b" / "g0" / "000.txt").write_text("another caption")
    changed = open_source(tmp_path / "b").digest
    (tmp_path / "b" / "g0" / "000.png").unlink()
    assert len({one.digest, changed, open_source(tmp_path / "b").digest}) == 3


def test_every_mode_becomes_rgb(tmp_path):
    place = tmp_path / "a.png"
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4] = (255, 0, 0, 255)
    Image.fromarray(clear).save(place)
    found = np.asarray(read_rgb(place))
    assert (found[:4] == (255, 0, 0)).all() and (found[4:] == 255).all()  # over white
    Image.fromarray(clear).convert("LA").save(place)
    assert (np.asarray(read_rgb(place))[4:] == 255).all()
    palette = Image.new("P", (8, 8))
    palette.putpalette([0, 0, 255, 9, 9, 9])
    palette.save(place)
    assert (np.asarray(read_rgb(place)) == (0, 0, 255)).all()
    palette.save(place, transparency=0)
    assert (np.asarray(read_rgb(place)) == 255).all()
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(place)
    assert (np.asarray(read_rgb(place)) == 128).all()
    Image.new("L", (8, 8), 77).save(place)
    assert (np.asarray(read_rgb(place)) == 77).all()
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    assert read_rgb(tmp_path / "a.jpg").mode == "RGB"


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_a_turned_picture_stands_upright(tmp_path, kind):
    turned = Image.Exif()
    turned[274] = 6
    picture = Image.fromarray(pixels(0, (48, 32)))
    picture.save(tmp_path / f"a.{kind}", exif=turned)
    source = open_source(tmp_path)
    assert source.sizes.tolist() == [[32, 48]] == [list(source.read(0).size)]
    assert source.read(0).picture.size == (32, 48)
    picture.save(tmp_path / f"a.{kind}")
    assert size_of(tmp_path / f"a.{kind}") == (48, 32)


def test_texts_are_packed_and_come_back():
    texts = ["", "a", "\u00e9t\u00e9", "", "half \udc80", "\u65e5\u672c"]
    packed = Packed(texts)
    assert len(packed) == 6 and [packed[i] for i in range(6)] == texts
    assert len(Packed([])) == 0
