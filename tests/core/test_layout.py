"""The graphs on the canvas: every node in a group, nothing over anything else, and a view to read. Nodes are
as tall as in the taller of the page's two styles; tests/live/test_layouts.py looks at the page.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from tools.derive.titles import TITLES, name_of, title_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
TITLE = 30  # px of a node's title, which stands above its place


def load(folder, name):
    return json.loads((ROOT / folder / f"{name}.json").read_text(encoding="utf-8"))


def box(node):
    """(left, top, right, bottom) with the title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def within(a, b):
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


@pytest.fixture(params=NAMES)
def graph(request):
    return load("workflows", title_of(request.param))


def group_boxes(graph):
    return [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in graph["groups"])]


def test_nothing_overlaps(graph):
    boxes = [box(node) for node in graph["nodes"]]
    assert not [pair for pair in combinations(boxes, 2) if overlap(*pair)]
    assert not [pair for pair in combinations(group_boxes(graph), 2) if overlap(*pair)]


def test_every_node_is_in_one_group_and_no_group_is_empty(graph):
    groups = group_boxes(graph)
    places = [[within(box(node), group) for group in groups] for node in graph["nodes"]]
    assert all(sum(row) == 1 for row in places) and all(map(any, zip(*places, strict=True)))


def test_steps_go_from_left_to_right(graph):
    titles = [group["title"] for group in graph["groups"]]
    assert [title[:2] for title in titles] == [f"{i} " for i in range(1, len(titles) + 1)]
    lefts = [group["bounding"][0] for group in graph["groups"]]
    assert lefts == sorted(lefts)


def test_the_graph_opens_where_text_is_drawn(graph):
    """ComfyUI draws none below a zoom of .6, and its bars cover 60 px at the left and the top."""
    view = graph["extra"]["ds"]
    assert 0.6 < view["scale"] <= 1
    assert all(60 <= side * view["scale"] <= 200 for side in view["offset"])


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_file_names_every_node_once(name):
    named = [
        key for group in load("tools/derive/layouts", name) for column in group["columns"] for key in column
    ]
    assert sorted(named) == sorted(map(int, load("workflows/api", name)))


def test_every_graph_has_a_title_of_its_own_and_both_forms():
    titles = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert titles == sorted(map(title_of, NAMES)) and set(TITLES) <= set(NAMES)
    assert [name_of(title) for title in titles] == [name_of(title_of(name_of(title))) for title in titles]
    assert len(set(map(name_of, titles))) == len(NAMES)


def test_titles_are_in_words_and_the_easy_ones_come_first():
    titles = [title_of(name) for name in NAMES]
    assert all(re.fullmatch(r"\d [A-Z]\w+( \w+)? - [\w ,]+", title) for title in titles)
    assert [name_of(title) for title in sorted(titles)[3:6]] == [
        "style_aligned_prompts", "style_aligned_reference", "instantstyle"
    ]  # fmt: skip
    assert [title[2:8] for title in sorted(titles)[:3]] == ["Try it"] * 3


def test_every_card_has_a_small_picture():
    for name in NAMES:
        picture = ROOT / "workflows" / f"{title_of(name)}.jpg"
        assert 4_000 < picture.stat().st_size < 40_000, picture.name
