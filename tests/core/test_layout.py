"""The graphs on the canvas: every node in a group, nothing over anything else, and a view to read. Nodes are
as tall as in the taller of the page's two styles; tests/live/test_layouts.py looks at the page.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from tools.derive import layout, wires
from tools.derive.titles import TITLES, name_of, title_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
TITLE = 30  # px of a node's title, which stands above its place
# Wires behind a box, at most: python -m tools.derive.wires.
BEHIND = {
    "1 Try it - a set in one style": 2, "2 Try it - the style of a picture": 7,
    "3 Try it - InstantStyle": 6, "attention_picture": 2, "blend_two_references": 23,
    "context_to_prompt": 6, "instantstyle": 1, "instantstyle_content_subtraction": 2,
    "instantstyle_controlnet": 2, "instantstyle_or_all_blocks": 9, "instantstyle_plus": 3,
    "instantstyle_style_aligned": 2, "score_sheet": 7, "strength_by_picture": 7, "style_aligned_canny": 4,
    "style_aligned_depth": 4, "style_aligned_famous": 3, "style_aligned_high_resolution": 7,
    "style_aligned_prompts": 2, "style_aligned_reference": 5, "style_aligned_two_references": 5,
    "style_kept_in_a_file": 1,
}  # fmt: skip


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


@pytest.mark.parametrize("name", NAMES)
def test_few_wires_run_behind_boxes(name):
    found = wires.hidden(load("workflows", title_of(name)))
    assert len(found) <= BEHIND[name], found


def test_a_wire_is_behind_a_box_only_where_it_passes_one():
    """Of three nodes in a row the first and the last are linked; the second stands between, or beneath."""

    def graph(y):
        tops = {"first": 0, "second": y, "last": 0}
        nodes = [
            {"id": i, "title": title, "pos": [300 * i, top], "size": [200, 100]}
            | {"inputs": [{}], "outputs": [{}]}
            for i, (title, top) in enumerate(tops.items())
        ]
        return {"nodes": nodes, "links": [[1, 0, 0, 2, 0, "MODEL"]]}

    assert wires.hidden(graph(0)) == [("first", "last", ["second"])]
    assert wires.hidden(graph(40)) == [("first", "last", ["second"])]  # behind its title
    assert wires.hidden(graph(60)) == [] == wires.hidden(graph(-120))


def test_a_wire_is_a_curve_with_level_ends():
    """As ComfyUI draws it: control points a quarter of the distance from the ends."""
    way = wires.curve((0, 0), (300, 400))
    assert way[0] == (0, 0) and way[-1] == (300, 400)
    assert way[len(way) // 2] == pytest.approx((150, 200))
    (x, y), reach = way[1], 125
    t = 1 / wires.STEPS
    assert x == pytest.approx(3 * (1 - t) ** 2 * t * reach + 3 * (1 - t) * t**2 * (300 - reach) + t**3 * 300)
    assert y == pytest.approx(400 * (3 * (1 - t) * t**2 + t**3))


def test_room_and_notes_beneath_are_as_a_layout_file_says():
    def sized():
        nodes = [{"id": i, "pos": [0, 0], "size": [300, 100]} for i in (1, 2)]
        return {"nodes": nodes}, {1: {"size": [300, 50]}}

    (plain, note), (other, beneath) = sized(), sized()
    layout.place(plain, note, [{"title": "1 A", "columns": [[1, 2]]}])
    how = {"room": {"1": 30, "2": 200}, "notes_beneath": [1]}
    layout.place(other, beneath, [{"title": "1 A", "columns": [[1, 2]], **how}])
    assert note[1]["pos"][1] < plain["nodes"][0]["pos"][1]
    first, second = other["nodes"]
    assert beneath[1]["pos"][1] == first["pos"][1] + 100 + layout.TITLE + layout.GAP
    assert second["pos"][1] == plain["nodes"][1]["pos"][1] + 230
    assert [g["bounding"][1] for g in (*plain["groups"], *other["groups"])] == [0, 30]


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
