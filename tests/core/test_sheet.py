"""The contact sheet: every picture whole at its place, and labels where they belong."""

import numpy as np
import pytest
import torch

from zsamb_core import sheet
from zsamb_core.sheet import Row, drawn, laid_out


def noise(height, width, seed=0):
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def crop(picture, place):
    return picture[place.y : place.y + place.height, place.x : place.x + place.width]


def made(rows, **settings):
    layout = laid_out(rows, **settings)
    return layout, drawn(layout, rows)


def inked(picture, top, bottom, left, right):
    """Whether anything is drawn there on the paper."""
    return bool((picture[top:bottom, left:right] < 0.9).any())


MIXED = [[(40, 60), (90, 30)], [(20, 20)], [(64, 64), (64, 64), (10, 200)]]


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("gap", [0, 7])
def test_pictures_as_they_are_stand_bit_for_bit_at_their_places(gap, labels):
    rows = [
        Row(
            [noise(h, w, 10 * i + j) for j, (h, w) in enumerate(sizes)],
            *([f"row {i}", "note"] if labels else []),
            captions=["style 0.5\nprompt 0.3"] * len(sizes) if labels else [],
        )
        for i, sizes in enumerate(MIXED)
    ]
    layout, picture = made(rows, heads=["a", "b", "c"] if labels else [], gap=gap)
    assert picture.shape == (layout.height, layout.width, 3)
    taken = torch.zeros(picture.shape[:2], dtype=torch.int)
    for row, places in zip(rows, layout.places, strict=True):
        assert len({place.y for place in places}) == 1
        for expected, place in zip(row.pictures, places, strict=True):
            assert torch.equal(crop(picture, place), expected)
            crop(taken, place).add_(1)
    assert int(taken.max()) == 1  # none over another
    paper = picture[taken == 0]
    assert bool((paper == 1).all()) != labels
    for j in (0, 1):  # a column's pictures stand below each other
        assert len({places[j].x for places in layout.places if j < len(places)}) == 1


def test_rows_of_one_size_are_a_plain_grid():
    rows = [Row([noise(32, 32, i + j) for j in range(3)]) for i in range(2)]
    layout, picture = made(rows, gap=0)
    assert picture.shape == (64, 96, 3)
    assert torch.equal(picture, torch.cat([torch.cat(list(row.pictures), 1) for row in rows]))
    assert made(rows, gap=5)[1].shape == (2 * 32 + 3 * 5, 3 * 32 + 4 * 5, 3)


@pytest.mark.parametrize(
    ("shape", "place"), [((50, 100), (40, 20)), ((100, 50), (20, 40)), ((8, 8), (40, 40))]
)
def test_scaled_pictures_keep_their_proportions(shape, place):
    ramp = torch.linspace(0, 1, shape[1])[None, :, None].expand(*shape, 3)
    layout, picture = made([Row([ramp])], size=40)
    (found,) = layout.places[0]
    assert (found.width, found.height) == place
    middle = crop(picture, found)[found.height // 2, :, 0]
    assert bool((middle.diff() >= 0).all()) and middle[0] < 0.1 and middle[-1] > 0.9
    extreme = crop(picture, found)[:, -1]
    assert torch.allclose(extreme, extreme[:1].expand_as(extreme), atol=2 / 255)


def test_one_thin_picture_keeps_a_pixel():
    layout, _ = made([Row([noise(1, 500)])], size=64)
    assert (layout.places[0][0].width, layout.places[0][0].height) == (64, 1)


def test_labels_are_drawn_beside_above_and_beneath_and_nowhere_else():
    pictures = [torch.ones(60, 60, 3)] * 2
    plain, bare = made([Row(pictures)])
    assert not inked(bare, 0, plain.height, 0, plain.width)

    def spots(label="", note="", captions=(), heads=()):
        layout, picture = made([Row(pictures, label, note, captions)], heads=heads)
        first, second = layout.places[0]
        below = first.y + first.height
        return {
            "beside": inked(picture, first.y, below, 0, first.x),
            "above": inked(picture, 0, first.y, first.x, first.x + 60),
            "above second": inked(picture, 0, first.y, second.x, layout.width),
            "beneath": inked(picture, below, layout.height, first.x, first.x + 60),
            "beneath second": inked(picture, below, layout.height, second.x, layout.width),
            "on": inked(picture, first.y, below, first.x, first.x + 60),
        }

    def where(**texts):
        return {name for name, ink in spots(**texts).items() if ink}

    assert where(label="a row") == {"beside"} and where(note="0.5") == {"beside"}
    assert where(heads=["a cat"]) == {"above"} and where(heads=["", "a cat"]) == {"above second"}
    assert where(captions=["0.5"]) == {"beneath"} and where(captions=["", "0.5"]) == {"beneath second"}
    assert where(label="a", heads=["b"] * 9, captions=["c"] * 9) == {
        "beside", "above", "above second", "beneath", "beneath second"
    }  # fmt: skip


def test_a_label_stands_at_the_middle_of_its_row():
    rows = [Row([torch.ones(100, 50, 3)], label) for label in ("first", "", "third")]
    layout, picture = made(rows)
    for (place,), row in zip(layout.places, rows, strict=True):
        ink = (picture[place.y : place.y + 100, : place.x] < 0.9).any(-1).any(-1).nonzero()
        assert bool(len(ink)) == bool(row.label)
        if row.label:
            assert abs(float(ink.float().mean()) - 50) < 10


def test_a_label_higher_than_its_row_has_room():
    label = "a label that is much too long for a row of so few pixels as this one has"
    layout, picture = made([Row([noise(12, 12)], label), Row([noise(12, 12)], label)])
    (one,), (other,) = layout.places
    assert other.y - one.y >= 4 * 15
    last_x = max(x + lines.width for x, _, lines, _ in layout.texts)
    assert last_x <= one.x and layout.height == len(picture)


def test_an_empty_place_stays_paper():
    rows = [Row([None, noise(20, 20)]), Row([noise(20, 20)] * 2)]
    layout, picture = made(rows, gap=3)
    assert layout.places[0][0] is None
    assert bool((picture[3:23, 3:23] == 1).all()) and torch.equal(
        crop(picture, layout.places[1][0]), noise(20, 20)
    )


def test_many_rows():
    rows = [Row([noise(16, 16, i)], f"row {i}") for i in range(100)]
    layout, picture = made(rows)
    assert all(
        torch.equal(crop(picture, p[0]), r.pictures[0]) for p, r in zip(layout.places, rows, strict=True)
    )


def test_text_grows_with_the_pictures():
    small, large = (laid_out([Row([noise(side, side)], "a label")]) for side in (64, 640))
    assert (small.text, large.text) == (15, 40) and large.texts[0][2].height > small.texts[0][2].height


def test_what_is_not_shown_is_told():
    layout = laid_out([Row([noise(32, 32)], "\U0010fffd b")], ["word " * 200])
    assert layout.lacking == ["? b (\U0010fffd)"]
    assert len(layout.cut) == 1 and layout.cut[0].startswith("word word")


def test_a_sheet_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(sheet, "MOST_PIXELS", 10_000)
    assert laid_out([Row([noise(88, 88)])])
    with pytest.raises(ValueError, match="the sheet would have 112 x 112 pixels, expected .* smaller size"):
        laid_out([Row([noise(100, 100)])])


def test_the_tools_sheet_is_this_one():
    from PIL import Image

    from tools.draw.studio import contact_sheet

    a, b = noise(128, 128, 1).numpy(), noise(128, 128, 2).numpy()
    reference = Image.fromarray((noise(128, 128, 3).numpy() * 255).round().astype(np.uint8))
    made = np.asarray(
        contact_sheet([("one\ntwo", reference, [a, b]), ("three", None, [b, a])], ["x", "y"], 128)
    )
    x = made.shape[1] - 3 * (128 + 6)
    first = made[-2 * 134 : -134 - 6, x : x + 128]
    assert (first == np.asarray(reference)).all()
    assert (made[-134:-6, x : x + 128] == 255).all()
    assert (made[-134:-6, x + 134 : x + 134 + 128] == (b * 255).round()).all()
