"""A small picture as text, and back."""

import base64
import io
import warnings

import pytest
import torch
from PIL import Image

from zsamb_core.files.thumbnail import HEAD, LARGEST, MOST, SIDE, as_picture, as_text


def ramp(height, width, channels=3):
    """Smooth, so that a JPEG keeps it nearly."""
    down, across = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    planes = [down[:, None] * across, down[:, None].expand(-1, width), *[across.expand(height, -1)] * 2]
    return torch.stack(planes[:channels], -1)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((512, 512), (SIDE, SIDE)),
        ((1024, 512), (SIDE, SIDE // 2)),
        ((40, 60), (40, 60)),
        ((3, 5000), (1, SIDE)),
    ],
)
def test_a_picture_is_made_small_and_never_larger(size, small):
    assert as_picture(as_text(ramp(*size))).shape == (*small, 3)


def test_it_shows_what_the_picture_shows():
    picture = ramp(200, 100)
    assert (as_picture(as_text(picture)) - picture).abs().mean() < 0.01


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pictures_of_one_and_four_channels_are_taken(channels):
    picture = ramp(64, 64, channels)
    expected = picture.expand(-1, -1, 3) if channels == 1 else picture[..., :3]
    assert (as_picture(as_text(picture)) - expected).abs().mean() < 0.02


def test_values_beyond_white_and_black_are_white_and_black():
    picture = torch.tensor([-3.0, 7.0]).repeat_interleave(16)[:, None, None].expand(-1, 32, 3)
    back = as_picture(as_text(picture))
    assert back[:8].max() < 0.05 and back[-8:].min() > 0.95


def jpeg(size, kind="JPEG"):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind)
    return HEAD + base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "", HEAD, HEAD + "!!!!", HEAD + "AAAA", HEAD + jpeg((8, 8))[len(HEAD) : -80], jpeg((8, 8), "PNG"),
        jpeg((8, 8)).replace("jpeg", "png"), jpeg((LARGEST + 1, 1)), HEAD + "A" * MOST, HEAD + "\u00e9",
    ],
    ids=["empty", "head", "no text", "no picture", "cut", "png", "said png", "large", "long", "not ascii"],
)  # fmt: skip
def test_what_is_no_small_picture_is_refused(text):
    with warnings.catch_warnings(), pytest.raises(ValueError, match="the small picture"):
        as_picture(text)


def test_of_a_picture_that_is_said_to_be_huge_no_pixel_is_read():
    """60,000 by 60,000 in its head, which Pillow would call a bomb."""
    data = bytearray(base64.b64decode(jpeg((8, 8))[len(HEAD) :]))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xea\x60\xea\x60"
    with pytest.raises(ValueError, match="the small picture cannot be read"):
        as_picture(HEAD + base64.b64encode(bytes(data)).decode())
