"""Sources as one prompt."""

import pytest

from zsamb_core.context.fusion import TEMPLATE, check_template, dropped, escape, fill, lines_of, unused

ROW = {"image": "a cat.", "speech": "hello there", "music": "", "weather": "Clear sky.", "text": "on a hill"}


def test_the_template():
    assert fill(TEMPLATE, ROW) == "on a hill a cat. hello there Clear sky."
    assert fill("{weather} {image}\n{image}", ROW) == "Clear sky. a cat. a cat."


def test_a_part_goes_with_its_source():
    template = "{image}[, as if {music} played][, in {weather}]"
    assert fill(template, ROW) == "a cat., in Clear sky."
    assert fill(template, {**ROW, "music": "jazz"}) == "a cat., as if jazz played, in Clear sky."
    assert fill("[{image} and {music}] {text}", ROW) == "on a hill"
    assert fill("[red] {text}", ROW) == "[red] on a hill"  # no source within: the user's own brackets


def test_texts_are_not_read_as_templates():
    row = {**ROW, "image": "a {text} [{music}] sign", "text": "{image}"}
    assert fill("{image} {text}", row) == "a {text} [{music}] sign {image}"


@pytest.mark.parametrize("template", ["", "a cat", "{picture}", "{text} {}"])
def test_templates_that_cannot_be_filled_are_refused(template):
    with pytest.raises(ValueError, match=r"template names .*expected some of \{image\}, \{speech\}"):
        check_template(template)
    check_template(TEMPLATE)


def test_lines():
    rows = lines_of({"image": "a cat.\na dog.", "text": "\n red \n\n", "music": ""})
    assert rows == [
        {"image": "a cat.", "text": "red", "music": ""}, {"image": "a dog.", "text": "red", "music": ""}
    ]  # fmt: skip
    assert lines_of({"text": "", "image": ""}) == [{"text": "", "image": ""}]
    # A silent recording among others keeps its place, the last one too.
    assert [row["speech"] for row in lines_of({"speech": "one\n"})] == ["one", ""]
    assert [row["speech"] for row in lines_of({"speech": "one\n\nthree"})] == ["one", "", "three"]
    with pytest.raises(ValueError, match=r"unlike numbers of lines \(image 2, text 3\)"):
        lines_of({"image": "a\nb", "text": "1\n2\n3"})


def test_what_the_template_leaves_out():
    assert unused("{image} {music}", ROW) == ["speech", "weather", "text"]
    assert unused(TEMPLATE, ROW) == []
    # Left out with the part that waits for another source.
    template = "{text} {weather} {speech}[, {image} with {music}]"
    assert unused(template, ROW) == ["image"] and unused(template, {**ROW, "music": "jazz"}) == []


def test_a_dropped_source_is_found():
    """The published example of a summary, where the picture is gone and only speech stays."""
    values = {
        "image": "a key on a wooden surface.",
        "speech": "A pair of keys lying on the table in the garden.",
    }
    assert dropped(values, "a pair of keys lying on the table in the garden.") == ["image"]
    assert dropped(values, "a key on wood and keys in the garden") == ["image"]
    assert dropped(values, "keys on a wooden table") == []
    assert dropped(values, "") == ["image", "speech"]
    assert dropped({"image": "a cat", "text": "the cats"}, "one cat") == []  # no words of its own to lose
    assert dropped({"image": "a cat", "music": ""}, "a cat") == []
    assert dropped({"weather": "of the and"}, "nothing") == []


def test_brackets_of_models_do_not_weigh():
    assert escape("a cat (laughs) \\(so\\)") == "a cat \\(laughs\\) \\(so\\)"
