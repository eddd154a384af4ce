"""What the score nodes' JSON says, in words for a sheet."""

import json

import pytest

from zsamb_core.scores.notes import read_notes

DINO = {"model": "m", "images": 2, "consistency": 0.5, "to_others": [0.5, 0.4996]}
CLIP = {"model": "m", "mean": 0.2, "cosines": [0.15, 0.25], "prompts": ["a", "b"], "cut": []}


def test_every_number_stands_where_it_belongs():
    notes = read_notes(json.dumps(DINO), 2)
    assert (notes.whole, notes.each) == (("consistency 0.500",), ("style 0.500", "style 0.500"))
    notes = read_notes(json.dumps(CLIP), 2)
    assert (notes.whole, notes.each) == (("prompt mean 0.200",), ("prompt 0.150", "prompt 0.250"))
    weighted = read_notes(json.dumps({**DINO, "weighted_multi_style": 0.25}), 2)
    assert weighted.whole == ("consistency 0.500", "to references 0.250")


@pytest.mark.parametrize("between", ["", " ", "\n", ", "])
def test_several_reports_on_one_set(between):
    notes = read_notes(json.dumps(DINO) + between + json.dumps(CLIP), 2)
    assert notes.whole == ("consistency 0.500", "prompt mean 0.200")
    assert notes.each == ("style 0.500\nprompt 0.150", "style 0.500\nprompt 0.250")


def test_an_old_report_has_no_number_for_a_picture():
    old = {key: value for key, value in DINO.items() if key != "to_others"}
    assert read_notes(json.dumps(old), 2).each == ("", "")


BAD = {
    "": "is ''", "0.81": "is '0.81'", "a cat": "is 'a cat'", "[]": r"is '\[\]'", '{"a": 1}': "has 'a'",
    '{"cosines": [0.1, 0.2]': "is ", "[" * 100_000: r"is '\[\[",
    json.dumps({**CLIP, "cosines": ["x", 1]}): "has 'x' in place of a number",
    json.dumps({**CLIP, "cosines": 3}): "has 3 in place of numbers",
    json.dumps({**CLIP, "mean": None}): "has None in place of a number",
    json.dumps({**CLIP, "mean": float("nan")}): "has nan in place of a number",
    json.dumps({**DINO, "consistency": True}): "has True in place of a number",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_report_is_quoted(text, message):
    with pytest.raises(
        ValueError, match=f"^{message}.*expected output json of DINO Style Score or CLIP"
    ) as e:
        read_notes(text, 2)
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("report", [DINO, CLIP, {**DINO, "to_others": [0.1]}])
def test_a_report_on_another_set_is_refused(report):
    count = 3 if report.get("to_others") != [0.1] else 2
    with pytest.raises(ValueError, match=rf"is a report on . pictures, expected one on the row's {count}"):
        read_notes(json.dumps(report), count)
