"""Picture files of every kind, and what is none."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zsamb_core.pictures import check_picture, read_picture


@pytest.fixture(scope="module")
def levels():
    """(16, 24, 3): eight by eight squares of many colors, and their grey."""
    rng = np.random.default_rng(1)
    return np.kron(rng.integers(0, 256, (2, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def png16(path, levels, kind):
    """``levels`` (h, w, channels) of 16 bits; ``kind``: PNG's number of the color type."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = levels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_sixteen_bits_of_grey_are_not_white(tmp_path, levels):
    grey = levels[..., :1]
    pixels = np.asarray(read_picture(png16(tmp_path / "a.png", grey.astype(np.uint16) * 257, 0)))
    assert np.array_equal(pixels, np.repeat(grey, 3, -1))
    Image.fromarray(levels[..., 0].astype(np.uint16) * 257).save(tmp_path / "a.tiff")
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.tiff")), np.repeat(grey, 3, -1))
    odd = np.arange(600, dtype=np.uint16).reshape(20, 30, 1) * 109
    pixels = np.asarray(read_picture(png16(tmp_path / "b.png", odd, 0)))[..., :1]
    assert np.abs(pixels - odd / 257).max() <= 0.5


@pytest.mark.parametrize("kind", [2, 6])
def test_sixteen_bits_of_colour(tmp_path, levels, kind):
    deep = levels.astype(np.uint16) * 257
    deep = deep if kind == 2 else np.concatenate([deep, np.full_like(deep[..., :1], 400)], -1)
    pixels = np.asarray(read_picture(png16(tmp_path / "a.png", deep, kind)))
    assert np.array_equal(pixels, levels)


def test_an_upright_rgb_of_every_mode(tmp_path, levels):
    picture = Image.fromarray(levels)
    for mode in ("L", "LA", "P", "RGBA", "1"):
        picture.convert(mode).save(tmp_path / "a.png")
        expected = np.asarray(picture.convert(mode).convert("RGB"))
        assert np.array_equal(np.asarray(read_picture(tmp_path / "a.png")), expected), mode
    turned = Image.Exif()
    turned[274] = 6
    picture.save(tmp_path / "b.png", exif=turned)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "b.png")), np.rot90(levels, -1))


def test_whole_numbers_of_32_bits_are_no_16_bits(tmp_path, levels):
    """As a TIFF may hold them; Pillow cuts what is above 255."""
    grey = levels[..., 0].astype(np.int32)
    Image.fromarray(grey).save(tmp_path / "a.tiff")
    pixels = np.asarray(read_picture(tmp_path / "a.tiff"))
    assert np.array_equal(pixels, np.repeat(levels[..., :1], 3, -1))


def test_of_an_animation_the_first_picture_is_read(tmp_path, levels):
    first, second = Image.fromarray(levels), Image.fromarray(255 - levels)
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(np.asarray(read_picture(tmp_path / "a.webp")), levels)


def test_a_check_reads_no_pixels(tmp_path, levels):
    path = tmp_path / "a.png"
    Image.fromarray(levels).save(path)
    path.write_bytes(path.read_bytes()[:60])
    check_picture(path)
    with pytest.raises(ValueError, match="a.png cannot be read as a picture"):
        read_picture(path)


def test_broken_files_are_named(tmp_path, levels):
    path = tmp_path / "a.png"
    Image.fromarray(levels).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    for data in (b"", b"no picture", whole[:20], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="a.png cannot be read as a picture"):
            read_picture(path)
    for _ in range(100):
        data = bytearray(whole)
        for place in rng.integers(8, len(data), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            check_picture(path)
            read_picture(path)
        except ValueError as error:
            assert str(error).startswith(f"{path} cannot be read as a picture")
    with pytest.raises(ValueError, match="nowhere.png cannot be read as a picture"):
        check_picture(tmp_path / "nowhere.png")
