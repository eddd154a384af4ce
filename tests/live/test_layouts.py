"""Every shipped graph on the page, in both styles that it draws nodes in: the boxes as they are there."""

import json
from itertools import combinations

import pytest

from tests.lacking import need_browser
from tests.live.canvas import SHOTS
from tools.hosting import workflows
from tools.hosting.browser import nodes_2, open_page, show

pytestmark = pytest.mark.live
GRAPHS = sorted(workflows.FOLDER.parent.glob("*.json"))
# Boxes with titles, [left, top, right, bottom], in the canvas's px; and the notes whose text is cut.
BOXES = """() => {
    const page = app.canvas.canvas.getBoundingClientRect(), { scale, offset } = app.canvas.ds;
    const drawn = (node) => {
        const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
        if (!box) return null;
        return [
            (box.left - page.left) / scale - offset[0], (box.top - page.top) / scale - offset[1],
            (box.right - page.left) / scale - offset[0], (box.bottom - page.top) / scale - offset[1],
        ];
    };
    const classic = ({ pos: [x, y], size: [width, height] }, title) => [x, y - title, x + width, y + height];
    const texts = [...document.querySelectorAll('.comfy-markdown-content')];
    return {
        nodes: app.graph._nodes.map((n) => [n.title, LiteGraph.vueNodesMode ? drawn(n) : classic(n, 30)]),
        groups: app.graph._groups.map((group) => classic(group, 0)),
        cut: texts.filter((e) => e.scrollHeight > e.clientHeight + 1).map((e) => e.textContent.slice(0, 40)),
        scale,
    };
}"""


@pytest.fixture(scope="module", params=(False, True), ids=("classic", "nodes 2.0"))
def page(request, server):
    need_browser()
    SHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server.url, 1900, 1000) as page:
        nodes_2(page, request.param)
        assert bool(page.evaluate("() => LiteGraph.vueNodesMode")) == request.param
        yield page
        nodes_2(page, False)


def overlap(a, b):
    return a[0] + 1 < b[2] and b[0] + 1 < a[2] and a[1] + 1 < b[3] and b[1] + 1 < a[3]


def within(a, b):
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


@pytest.mark.parametrize("path", GRAPHS, ids=[path.stem for path in GRAPHS])
def test_nothing_overlaps_and_no_note_is_cut(page, path):
    show(page, json.loads(path.read_text(encoding="utf-8")))
    page.wait_for_timeout(700)
    seen = page.evaluate(BOXES)
    assert seen["nodes"] and all(box for _, box in seen["nodes"]) and seen["scale"] > 0.6
    over = [(a[0], b[0]) for a, b in combinations(seen["nodes"], 2) if overlap(a[1], b[1])]
    outside = [title for title, box in seen["nodes"] if sum(within(box, g) for g in seen["groups"]) != 1]
    assert (over, outside, seen["cut"]) == ([], [], [])
