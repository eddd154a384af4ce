"""Text from outside as it is shown and written, and the names that are made of it."""

import pytest

from zsamb_core import texts
from zsamb_core.headless import answers, names
from zsamb_core.messages import quoted


def test_what_moves_a_cursor_or_turns_a_line_is_shown_as_an_escape():
    shown = texts.plain("a\nb\t\x1b[2J\x9b\u202egnp\u2066\ud800\x7f")
    assert shown == "a\nb\t\\x1b[2J\\x9b\\u202egnp\\u2066\\ud800\\x7f"
    assert texts.plain("\u9ce5 \xe9") == "\u9ce5 \xe9"


def test_no_more_is_shown_than_the_limit():
    assert texts.plain("x" * 10, 10) == "x" * 10
    assert texts.plain("x" * 11, 10) == f"{'x' * 10}... (11 characters)"
    assert texts.plain("\x00" * 6, 10).startswith("\\x00\\x00\\x... (")
    assert quoted("x" * 198) == repr("x" * 198)
    assert len(quoted("x" * 199)) == len(quoted("x" * 300)) == len(quoted("x" * 3000)) == 200
    assert quoted(10**5000) == "a number too long to be shown"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_is_read_in_every_encoding_of_unicode(encoding):
    assert texts.read_json('{"a": "\u9ce5"}'.encode(encoding)) == {"a": "\u9ce5"}


def test_json_as_deep_as_the_limit_and_deeper():
    deep = texts.DEEPEST
    assert texts.read_json("[" * deep + "]" * deep)
    for levels in (deep + 2, 100_000):
        with pytest.raises(ValueError, match="nested more than 200 levels deep"):
            texts.read_json("[" * levels + "]" * levels)
    assert texts.read_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="a name stands twice"):
        texts.read_json('[{"a": 1, "a": 2}]', once=True)


def test_a_label_is_a_part_of_a_file_s_name():
    assert names.label("Save  Image: cat/../dog.png ") == "Save-Image-cat-dog-png"
    assert names.label("\x1b\u202e \ud800 _-") == ""
    long = names.label("\u9ce5" * 100)
    assert len(long.encode()) <= names.LABEL and set(long) == {"\u9ce5"}


def test_endings_and_prefixes_of_saved_files():
    endings = [names.suffix(n) for n in ("a.PNG", "a.b.webp", "a", "a.", ".png", "a.p g", "a." + "x" * 17)]
    assert endings == [".png", ".webp", "", "", "", "", ""]
    prefixes = [
        names.prefix(n) for n in ("cat_00001_.png", "cat_00001.wav", "x/y\\cat_2_00001_.png", "cat.png")
    ]
    assert prefixes == ["cat", "cat", "cat_2", "cat"]


def test_names_that_a_file_system_takes_for_one():
    assert names.same_as("Caf\xe9") == names.same_as("cafe\u0301") == names.same_as("CAFE\u0301")
    assert names.same_as("a") != names.same_as("b")


def test_what_nodes_saved_comes_in_the_order_of_their_numbers():
    """Ids that are no plain numbers, a node's within another or digits of another script, come last."""
    ids = ("b", "10", "9", "5.0.1", "\u0663", "9" * 5000)
    outputs = {node: {"images": [{"filename": "x.png"}], "text": ["said"]} for node in ids}
    files, texts_ = answers.outcome({"outputs": outputs}, {})
    expected = ["9", "10", *sorted(("b", "5.0.1", "\u0663", "9" * 5000))]
    assert [file.node for file in files] == [text.node for text in texts_] == expected
