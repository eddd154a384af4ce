"""Pictures as squares."""

import math

import pytest
import torch

from zsamb_core.instantstyle.crops import pad_to_square, tiles

COLOR = (0.25, 0.5, 0.75)
SIZES = [
    (1, 1), (2, 2), (3, 3), (5, 5), (8, 8), (8, 16), (16, 8), (9, 16), (7, 5), (5, 12), (13, 31), (1, 9),
    (9, 1), (2, 11), (3, 100), (64, 48), (97, 101),
]  # fmt: skip


def numbered(n, h, w):
    """Every pixel of every picture is another one."""
    return torch.arange(n * h * w * 3, dtype=torch.float32).view(n, h, w, 3)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_a_padded_picture_is_in_the_middle(h, w):
    images = numbered(2, h, w) + 1
    squares = pad_to_square(images, COLOR)
    side = max(h, w)
    assert squares.shape == (2, side, side, 3)
    top, left = (side - h) // 2, (side - w) // 2
    assert torch.equal(squares[:, top : top + h, left : left + w], images)
    around = torch.ones(side, side, dtype=torch.bool)
    around[top : top + h, left : left + w] = False
    assert (squares[:, around] == torch.tensor(COLOR)).all() and int(around.sum()) == side * side - h * w


def test_the_middle_by_hand():
    wide = pad_to_square(torch.ones(1, 2, 4, 3), (0, 0, 0))[0, :, :, 0]
    assert wide.tolist() == [[0] * 4, [1] * 4, [1] * 4, [0] * 4]
    tall = pad_to_square(torch.ones(1, 4, 1, 3), (0, 0, 0))[0, :, :, 0]
    assert tall.tolist() == [[0, 1, 0, 0]] * 4


def test_padding_leaves_squares_and_its_input_alone():
    images = torch.rand(2, 5, 5, 3)
    assert torch.equal(pad_to_square(images, COLOR), images)
    before = images.clone()
    pad_to_square(images, COLOR).zero_()
    assert torch.equal(images, before)
    half = pad_to_square(torch.ones(1, 2, 3, 3, dtype=torch.float16), COLOR)
    assert half.dtype == torch.float16 and half[0, 2, 0].tolist() == list(COLOR)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_tiles_cover_the_picture(h, w):
    images = numbered(1, h, w)
    parts = tiles(images)
    side = math.ceil(min(h, w) / 2)
    assert parts.shape[1:] == (side, side, 3)
    assert torch.equal(parts.unique(), images.flatten())
    # Every tile is a piece of the picture: pixels beside each other there are so in it.
    assert (parts[:, :, 1:] - parts[:, :, :-1] == 3).all() and (parts[:, 1:] - parts[:, :-1] == 3 * w).all()


@pytest.mark.parametrize(
    ("h", "w", "count"),
    [
        (8, 8, 4), (512, 512, 4), (8, 16, 8), (16, 8, 8), (8, 12, 6), (9, 16, 8), (5, 5, 4), (2, 2, 4),
        (1, 1, 1), (1, 9, 9), (4, 7, 8), (96, 100, 6), (101, 200, 8),
    ],
)  # fmt: skip
def test_as_few_tiles_as_cover(h, w, count):
    """Odd sides need no more than even ones: tiles of half a side are rounded up."""
    assert len(tiles(torch.zeros(1, h, w, 3))) == count


def test_tiles_go_by_picture_then_row_then_column():
    images = numbered(3, 4, 8)
    parts = tiles(images)
    assert len(parts) == 24
    corners = [image[top, left, 0] for image in images for top in (0, 2) for left in (0, 2, 4, 6)]
    assert torch.equal(parts[:, 0, 0, 0], torch.stack(corners))


def test_tiles_are_at_even_distances():
    """Of side 4 over 14: four, at 0, 10/3, 20/3 and 10, rounded."""
    parts = tiles(numbered(1, 8, 14))
    assert [int(t) // 3 % 14 for t in parts[:4, 0, 0, 0]] == [0, 3, 7, 10]
