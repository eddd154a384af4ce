"""Contact Sheet: rows in order, labels and scores at theirs, and errors that name the input."""

import json
import logging

import pytest
import torch

pytestmark = pytest.mark.host


def noise(count, height=40, width=40, seed=0, channels=3):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def sheet(pack):
    """(H, W, 3) of rows by number; ``out`` gives the node's whole output."""
    node = pack.nodes.contact_sheet.ContactSheet

    def out(rows, scores=(), row_labels="", column_labels="", size=0, gap=4):
        images = rows if isinstance(rows, dict) else {f"row{i}": row for i, row in enumerate(rows)}
        reports = scores if isinstance(scores, dict) else {f"score{i}": s for i, s in enumerate(scores)}
        return node.execute(row_labels, column_labels, size, gap, images, reports)

    def sheet(rows, **settings):
        (picture,) = out(rows, **settings).result
        assert picture.ndim == 4 and len(picture) == 1
        return picture[0]

    sheet.out = out
    return sheet


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING)

    def said():
        lines = [r.getMessage() for r in caplog.records if "Contact Sheet" in r.getMessage()]
        caplog.clear()
        return lines

    return said


def test_a_sheet_of_pictures_as_they_are_holds_them_bit_for_bit(sheet, said):
    rows = [noise(3, seed=1), noise(1, 20, 60, seed=2), noise(2, 50, 10, seed=3)]
    picture = sheet(rows)
    xs, ys = (4, 4 + 60 + 4, 4 + 60 + 4 + 40 + 4), (4, 48, 72)
    for row, y in zip(rows, ys, strict=True):
        for one, x in zip(row, xs, strict=False):
            assert torch.equal(picture[y : y + one.shape[0], x : x + one.shape[1]], one)
    assert picture.shape == (72 + 50 + 4, xs[2] + 40 + 4, 3) and said() == []


def test_a_single_picture_is_itself_within_its_margin(sheet):
    one = noise(1)
    assert torch.equal(sheet([one], gap=0), one[0])
    assert torch.equal(sheet([noise(1, channels=4)], gap=0), noise(1, channels=4)[0, ..., :3])


def test_sixteen_rows_stand_in_the_order_of_their_numbers(sheet):
    rows = {f"row{i}": torch.full((1, 8, 8, 3), i / 16) for i in range(16)}
    picture = sheet(dict(sorted(rows.items())), gap=0)  # row10 is before row2 there
    assert picture[::8, 0, 0].tolist() == [i / 16 for i in range(16)]


def test_the_size_is_of_the_longer_side(sheet):
    assert sheet([noise(1, 64, 128), noise(1, 128, 64)], size=32, gap=0).shape == (16 + 32, 32, 3)


def inked(picture, rows, columns=1):
    """Which rows of 40 px with a gap of 4 have something in the column of labels."""
    left = picture[:, : picture.shape[1] - 44 * columns]
    return [bool((left[4 + 44 * i : 44 + 44 * i] < 0.9).any()) for i in range(rows)]


def test_labels_are_of_the_row_with_their_number(sheet, said):
    rows = [noise(1)] * 3
    assert inked(sheet(rows, row_labels="a\n\nc"), 3) == [True, False, True]
    gone = sheet({"row0": rows[0], "row1": None, "row2": rows[2]}, row_labels="\n b b b \n")
    assert gone.shape == (4 + 2 * 44, 48, 3)  # a label goes with its row
    assert said() == ["Contact Sheet: row_labels has 2 lines for 3 rows: the last rows have no label."]


def test_more_or_fewer_labels_are_told_in_one_line(sheet, said):
    rows = [noise(2), noise(1)]
    for settings, line in [
        ({"row_labels": "a"}, "row_labels has 1 line for 2 rows: the last rows have no label."),
        ({"row_labels": "a\nb\nc"}, "row_labels has 3 lines for 2 rows: the further lines are not shown."),
        ({"column_labels": "a"}, "column_labels has 1 line for 2 columns: the last columns have no label."),
        ({"column_labels": "a\nb\nc"}, "column_labels has 3 lines for 2 columns: the further lines"),
        ({"row_labels": "\U0010fffd\nb"}, "no font here has all characters of these labels: ? ("),
        ({"row_labels": "word " * 99 + "\nb"}, "there is no room for the ends of these labels: word"),
    ]:
        sheet(rows, **settings)
        (found,) = said()
        assert found.startswith(f"Contact Sheet: {line}")
    sheet(rows, row_labels="a\nb\n", column_labels="a\nb")
    sheet(rows, row_labels=" \n ", column_labels="")
    assert said() == []


@pytest.fixture(scope="module")
def reports(pack):
    """Of three pictures, by the real nodes."""
    scores = pack.nodes.scores
    dino, clip = (scores.LoadVisionModel.execute(name).result[0] for name in ("demo DINO", "demo CLIP"))
    images = noise(3, 128, 128)
    with torch.inference_mode():
        return {
            "dino": scores.DINOStyleScore.execute(dino, images, "1", "published (squash)").result[2],
            "clip": scores.CLIPScore.execute(clip, images, "a cat", "published (squash)").result[1],
        }


def test_what_the_score_nodes_give_out_is_read(pack, reports):
    read = pack.zsamb_core.scores.notes.read_notes
    dino, clip = (json.loads(reports[name]) for name in ("dino", "clip"))
    notes = read(reports["dino"], 3)
    assert notes.whole == (f"consistency {dino['consistency']:.3f}",)
    assert notes.each == tuple(f"style {value:.3f}" for value in dino["to_others"])
    assert sum(dino["to_others"]) / 3 == pytest.approx(dino["consistency"])
    assert read(reports["clip"], 3).each == tuple(f"prompt {value:.3f}" for value in clip["cosines"])
    assert len(read(reports["dino"] + reports["clip"], 3).whole) == 2


def test_scores_stand_beneath_the_pictures_of_their_row(sheet, reports):
    rows = [torch.ones(1, 40, 40, 3), torch.ones(3, 40, 40, 3)]
    bare, scored = sheet(rows), sheet(rows, scores={"score0": None, "score1": reports["clip"]})
    assert bool((bare == 1).all())
    assert bool((scored[:48] == 1).all())  # nothing with row0
    assert inked(scored, 2, 3)[1] and bool((scored[88:] < 0.9).any())
    with pytest.raises(ValueError, match=r"score0 is a report on 3 pictures, expected one on the row's 1"):
        sheet(rows, scores=[reports["clip"]])


def test_the_node_shows_its_sheet(sheet):
    shown = sheet.out([noise(2)]).ui.as_dict()
    assert len(shown["images"]) == 1


def test_errors_name_the_input(sheet, reports):
    broken = noise(2)
    broken[1, 3, 3, 0] = torch.nan
    one = [noise(3)]
    for settings, message in [
        ({"rows": []}, "images has no picture, expected one at least. Connect"),
        ({"rows": {"row0": None}}, "images has no picture"),
        ({"rows": [noise(1), broken]}, "row1, picture 2 of 2, has 1 of 4800 values that are not numbers"),
        ({"rows": [noise(1)[..., :1]]}, r"row0 has shape \(1, 40, 40, 1\), expected pictures \(n, H, W, 3\)"),
        ({"rows": [noise(1), noise(1)[0]]}, r"row1 has shape \(40, 40, 3\)"),
        ({"rows": one, "scores": ["0.81"]}, "score0 is '0.81', expected output json of DINO.* Connect the"),
        (
            {"rows": one, "scores": [reports["clip"]] * 2},
            "score1 is connected and row1 is not, expected both",
        ),
        ({"rows": one, "size": -1}, "size is -1, expected 0 or more"),
        ({"rows": one, "gap": -8}, "gap is -8, expected 0 or more"),
        ({"rows": one, "scores": [""]}, "score0 is '', expected"),
    ]:
        with pytest.raises(ValueError, match=f"^Contact Sheet: {message}"):
            sheet(**settings)


def test_a_sheet_too_large_is_refused(sheet, pack, monkeypatch):
    monkeypatch.setattr(pack.zsamb_core.sheet, "MOST_PIXELS", 1000)
    with pytest.raises(ValueError, match="^Contact Sheet: the sheet would have 48 x 48 pixels"):
        sheet([noise(1)])
