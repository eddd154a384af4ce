"""Every shipped workflow run through the API and queued from the real page, one after the other; then each
opened there as it was written. The page's run comes right after the API's and asks for the same, so the
server draws once. Screenshots go to ``output/screenshots``.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lacking import need_browser
from tests.live import shipped_forms
from tests.live.canvas import FIT, PROBLEMS, SHOTS, numbered, queue
from tools.derive.titles import title_of
from tools.hosting import workflows
from tools.hosting.browser import as_prompt, open_page, show, show_api

pytestmark = pytest.mark.live
NAMES = sorted(path.stem for path in workflows.FOLDER.glob("*.json"))
# Other than the set of four: three sets, two sets and four sheets of scores, three prompts, one picture, two
# sets, with the style picture in the last; and sets with a style picture, a sheet or both.
PICTURES = {
    "blend_two_references": 12, "score_sheet": 12, "context_to_prompt": 3, "instantstyle_plus": 1,
    "1 Try it - a set in one style": 8, "2 Try it - the style of a picture": 9, "3 Try it - InstantStyle": 9,
    "style_kept_in_a_file": 5, "attention_picture": 5, "strength_by_picture": 5,
    "instantstyle_or_all_blocks": 6,
}  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    """Of the module, so that both runs of one workflow come before the next."""
    return request.param


@pytest.fixture(scope="module")
def page(server, stand_ins):
    need_browser()
    SHOTS.mkdir(parents=True, exist_ok=True)
    with open_page(server.url) as page:
        yield page


def twin_of(name):
    """On the demo model, with few steps, and a seed of its own: some draw what others draw too, and the
    server keeps what it drew last.
    """
    number = NAMES.index(name)
    twin = workflows.with_steps(workflows.demo_twin(workflows.load(name)), 3)
    for node in twin.values():
        node["inputs"] |= {key: number for key in ("seed", "noise_seed") if key in node["inputs"]}
    return numbered(twin, 1000 * (number + 1))


def test_it_runs(server, stand_ins, name):
    steps, twin = [], twin_of(name)
    kinds = {node["_meta"]["title"]: node["class_type"] for node in twin.values()}

    def run():
        return server.run(twin, lambda title, step, total: steps.append((kinds[title], step, total)))

    with ThreadPoolExecutor(1) as aside:  # in this thread Playwright has an event loop running
        pictures = aside.submit(run).result()
    side = 192 if name == "style_aligned_high_resolution" else 128
    assert len(pictures) == PICTURES.get(name, 4)
    drawn = [p for p in pictures if p.shape == (side, side, 3)]
    assert len(drawn) >= min(3, len(pictures)) and all(p.std() > 0.01 for p in pictures)
    assert {("KSampler", 3, 3), ("KSamplerAdvanced", 3, 3)} & set(steps)
    if "reference" in name or "famous" in name or name == "instantstyle_plus":
        assert any(node == "ZSAMB_DDIMInvert" and 0 < step <= total for node, step, total in steps)


SHOWING = {
    "ZSAMB_DINOStyleScore", "ZSAMB_CLIPScore", "ZSAMB_ContactSheet", "ZSAMB_AttentionPicture",
    "ZSAMB_LoadStyleReference",
}  # fmt: skip


def shows_a_picture(node):
    """Whether it has one to look at by itself."""
    blend = node["class_type"] == "ZSAMB_MultiRefBlend" and node["inputs"]["method"] != "attention"
    return blend or node["class_type"] in SHOWING


def test_it_is_queued_from_the_page_and_its_pictures_arrive(page, name):
    twin = twin_of(name)
    looked_at = [key for key, node in twin.items() if shows_a_picture(node)]
    if looked_at:  # the host sends such a picture when the node runs: the server is to forget the API's run
        assert page.request.post("/api/free", data={"free_memory": True}).ok
    show_api(page, twin, anew=False)
    assert shipped_forms.bare(as_prompt(page)["output"]) == shipped_forms.bare(twin)
    saving = [key for key, node in twin.items() if node["class_type"] in ("SaveImage", "PreviewImage")]
    assert saving
    queue(page)
    for key in saving:
        arrived = page.evaluate("(id) => arrived[id].images", key)
        shown = page.evaluate("(id) => app.nodeOutputs[id].images", key)
        assert arrived and [i["filename"] for i in shown] == [i["filename"] for i in arrived]
        for image in arrived:
            query = "&".join(f"{k}={v}" for k, v in image.items())
            answer = page.request.get(f"/api/view?{query}")
            assert answer.ok and answer.headers["content-type"].startswith("image/")
    assert page.evaluate("() => app.graph._nodes.filter((n) => n.has_errors).map((n) => n.type)") == []
    for key in looked_at:
        assert page.evaluate("(id) => app.nodeOutputs[id].images.length", key) == 1
    page.evaluate(FIT)
    page.wait_for_timeout(500)
    page.screenshot(path=SHOTS / f"{name}_demo.png")


def ours(errors):
    """The console's errors without what the page itself finds missing on any fresh server."""
    return [text for kind, text in errors if kind == "script" or "zsamb" in text.lower()]


@pytest.mark.parametrize("shipped", NAMES)
def test_it_opens_as_it_was_written(page, shipped):
    """After all runs: it names models that the server lacks, and the page marks their nodes for a while."""
    page.errors.clear()
    show(page, json.loads((workflows.FOLDER.parent / f"{title_of(shipped)}.json").read_text()))
    assert page.evaluate(PROBLEMS) == []
    assert shipped_forms.bare(as_prompt(page)["output"]) == shipped_forms.bare(workflows.load(shipped))
    notes = [n for n in workflows.load(shipped).values() if "note" in n["_meta"]]
    shown = page.evaluate("() => app.graph._nodes.filter((n) => n.type === 'MarkdownNote').length")
    assert shown == len(notes) >= 2
    page.evaluate(FIT)
    page.wait_for_timeout(500)
    page.screenshot(path=SHOTS / f"{shipped}.png")
    assert ours(page.errors) == []
