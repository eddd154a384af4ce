"""docs/measured.md shows what the commands measured."""

import json
import re

import pytest

from benchmarks.figures import FOLDER, PAGE, mark, placed

NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def rows_of(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_has_the_figures_of_the_command(name):
    page, rows = PAGE.read_text(encoding="utf-8"), rows_of(name)
    assert placed(page, name, rows) == page, f"python -m benchmarks.* --docs writes {name} and the page"
    (column, value), *_ = [item for item in rows[0].items() if isinstance(item[1], (int, float))]
    assert placed(page, name, [{**rows[0], column: value + 1}, *rows[1:]]) != page


def test_every_mark_has_its_figures():
    marks = re.findall(r"<!-- figures of (\w+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(marks) == NAMES and {"bank", "import_time", "operators", "step"} <= set(NAMES)


def test_a_page_without_the_mark_is_an_error():
    with pytest.raises(ValueError, match="lacks the lines"):
        placed("a page", "operators", rows_of("operators"))
    assert mark("operators") in PAGE.read_text(encoding="utf-8")
