"""The real front end in headless Chromium: old workflows on the canvas, blueprints, help, and the search.
Screenshots go to ``output/screenshots``.
"""

import json
import re

import pytest

from tests.lacking import need_browser
from tests.live import shipped_forms
from tests.live.canvas import PROBLEMS, SHOTS, numbered, queue
from tools.hosting import workflows
from tools.hosting.browser import as_prompt, open_page, show, show_api

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def page(server, stand_ins):
    need_browser()
    with open_page(server.url) as page:
        yield page


def test_values_of_every_canvas_form_that_was_shipped_land_in_their_inputs(page):
    """In the inputs of an API form of the same workflow. What a node got later has its default; at first
    SharedAttention had its two numbers alone, which is the preset custom and group norms unshared now.
    """
    info, forms = object_info(page), shipped_forms.shipped()
    now = shipped_forms.current()
    for form in forms:
        if form["kind"] == "api" or shipped_forms.has(now, form):
            continue
        show(page, form["form"])
        landed = shipped_forms.bare(as_prompt(page)["output"])
        meant = [
            shipped_forms.bare(other["form"])
            for other in forms
            if (other["kind"], other["name"]) == ("api", form["name"])
        ]
        assert page.evaluate(PROBLEMS) == [] and (form["kind"] == "blueprint" or meant)
        assert not meant or any(lands(landed, other, info) for other in meant), form["name"]


def lands(landed, meant, info):
    """Whether the nodes have all inputs that were meant, and beside them what adds nothing."""

    def added(kind, name, value):
        declared = {**info[kind]["input"].get("required", {}), **info[kind]["input"].get("optional", {})}
        first = {"preset": "custom", "share_group_norm": False}
        return value == declared[name][1].get("default") or (name in first and first[name] == value)

    return landed.keys() == meant.keys() and all(
        landed[key]["class_type"] == node["class_type"]
        and node["inputs"].items() <= landed[key]["inputs"].items()
        and all(
            added(node["class_type"], name, value)
            for name, value in landed[key]["inputs"].items()
            if name not in node["inputs"]
        )
        for key, node in meant.items()
    )


def object_info(page):
    """Not by the server's own client: Playwright has an event loop running here."""
    return page.request.get("/object_info").json()


def test_braces_and_comments_are_for_the_page(page):
    """As in the host's own prompt boxes: the page resolves them before it queues."""
    show_api(page, numbered(workflows.load("style_aligned_prompts"), 1000), anew=False)
    typed = {
        "prompts": "{a cat|a cat} (1994)\n// no picture\na house /* nor this */ in fog",
        "style": "in {woodcut} style",
    }
    page.evaluate(
        """(typed) => {
            const node = app.graph._nodes.find((n) => n.type === 'ZSAMB_PromptSet');
            for (const widget of node.widgets) if (widget.name in typed) widget.value = typed[widget.name];
        }""",
        typed,
    )
    (inputs,) = (
        n["inputs"] for n in as_prompt(page)["output"].values() if n["class_type"] == "ZSAMB_PromptSet"
    )
    lines = [" ".join(line.split()) for line in inputs["prompts"].splitlines() if line.strip()]
    assert lines == ["a cat (1994)", "a house in fog"]
    assert inputs["style"] == "in woodcut style"


def test_help_opens_from_a_node(page):
    demo = workflows.demo_twin(workflows.load("style_aligned_prompts"))
    show_api(page, numbered(demo, 2000), anew=False)
    place = page.evaluate("""() => {
        const node = app.graph._nodes.find((n) => n.type === 'ZSAMB_SharedAttention');
        app.canvas.centerOnNode(node);
        const ds = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
        const at = (i, shift) => (node.pos[i] + shift + ds.offset[i]) * ds.scale;
        return [at(0, 60) + box.left, at(1, -12) + box.top];
    }""")
    page.wait_for_timeout(500)
    page.mouse.click(*place)
    page.locator("[data-testid='info-button']").click()
    # A sentence of the help page that stands nowhere else.
    page.get_by_text("Draws a set of pictures in one style: in every").first.wait_for(timeout=10_000)
    page.wait_for_function("""() => [...document.images].some(
            (i) => i.src.endsWith('pictures/ZSAMB_SharedAttention.png') && i.naturalWidth > 100
        )""")
    page.screenshot(path=SHOTS / "help.png")


def searched(page, words):
    """The node search, with what it finds for some words."""
    page.evaluate("() => app.graph.clear()")
    search = page.get_by_placeholder("Add a node")
    for _ in range(10):  # the canvas takes no notice while it is still being set up
        page.mouse.dblclick(900, 800)
        page.wait_for_timeout(2000)
        if search.count():
            break
    search.fill(words)
    page.wait_for_timeout(1000)
    page.screenshot(path=SHOTS / f"search_{words.replace(' ', '_')}.png")


def test_the_patch_comes_first_for_style_aligned_and_is_found_for_style_transfer(page):
    title = object_info(page)["ZSAMB_SharedAttention"]["display_name"]
    searched(page, "style transfer")
    assert page.get_by_text(title, exact=True).count()
    page.keyboard.press("Escape")
    searched(page, "style aligned")
    page.keyboard.press("Enter")
    page.wait_for_function("() => app.graph._nodes.length === 1", timeout=10_000)
    assert page.evaluate("() => app.graph._nodes[0].type") == "ZSAMB_SharedAttention"


@pytest.mark.parametrize(
    "alias, kind",
    [("Whisper", "ZSAMB_TranscribeSpeech"), ("style consistency", "ZSAMB_DINOStyleScore"),
     ("prompt fusion", "ZSAMB_ContextToPrompt")],
)  # fmt: skip
def test_a_node_found_by_an_alias_comes_with_its_defaults(page, alias, kind):
    searched(page, alias)
    info = object_info(page)[kind]
    page.get_by_text(info["display_name"], exact=True).first.click()
    page.wait_for_function("() => app.graph._nodes.length === 1", timeout=10_000)
    (node,) = as_prompt(page)["output"].values()
    assert node["class_type"] == kind
    declared = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    assert node["inputs"]
    for name, value in node["inputs"].items():
        assert value == declared[name][1]["default"], name


BLUEPRINTS = sorted((workflows.FOLDER.parents[1] / "subgraphs").glob("*.json"))


def test_blueprints_are_listed_and_open_with_their_values(page):
    listed = page.request.get("/api/global_subgraphs").json().values()
    ours = {entry["name"] for entry in listed if entry["info"]["node_pack"] == "custom_nodes.zsamb"}
    assert ours == {path.stem for path in BLUEPRINTS} and len(ours) == 3
    for path in BLUEPRINTS:
        show(page, json.loads(path.read_text()))
        assert page.evaluate(PROBLEMS) == []
        assert page.evaluate("() => app.graph._nodes.map((n) => n.title)") == [path.stem]
        page.screenshot(path=SHOTS / f"blueprint {path.stem}.png")


def test_a_blueprint_asks_in_words_for_prompts_first_and_the_negative_last(page):
    for path in BLUEPRINTS:
        show(page, json.loads(path.read_text()))
        labels = page.evaluate("() => app.graph._nodes[0].widgets.map((w) => w.label ?? w.name)")
        assert labels and all(re.fullmatch(r"[A-Z][\w, -]+", label) for label in labels), labels
        assert labels[0].startswith(("Prompts", "What the picture", "Weight"))
        assert "Negative prompt" not in labels[:-1]
        values = page.evaluate("() => app.graph._nodes[0].widgets.map((w) => w.value)")
        assert None not in values and (path.stem != "Style-Aligned Set" or values[-1] == "")


def test_sockets_of_the_pack_have_colors_of_their_own(page):
    """In the classic style and in Nodes 2.0, also after another palette."""
    info, host = object_info(page), {"BOOLEAN", "COMBO", "FLOAT", "INT", "STRING", "AUDIO", "HOOKS"}
    ours = (
        # An output may be of several types: "STRING,COMBO".
        {
            kind
            for name, node in info.items()
            if name.startswith("ZSAMB_")
            for kinds in node["output"]
            for kind in kinds.split(",")
        }
        - {kind for name, node in info.items() if not name.startswith("ZSAMB_") for kind in node["output"]}
        - host
    )
    colors = """(types) => types.map((type) => [
        app.canvas.default_connection_color_byType[type], LGraphCanvas.link_type_colors[type],
        getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
    ])"""
    seen = page.evaluate(colors, sorted(ours))
    page.evaluate("async () => await app.extensionManager.colorPalette.loadColorPalette('nord')")
    assert page.evaluate(colors, sorted(ours)) == seen
    page.evaluate("async () => await app.extensionManager.colorPalette.loadColorPalette('dark')")
    assert len(ours) >= 9 and all(len(set(three)) == 1 and three[0].startswith("#") for three in seen)
    known = set(page.evaluate("() => Object.values(app.canvas.default_connection_color_byType)")) - {""}
    assert len({three[0] for three in seen}) == len(ours) < len(known)


def test_templates_are_listed_by_their_names(page):
    """In the order of the disk: the page has no hook for another."""
    listed = page.evaluate("async () => (await app.api.getWorkflowTemplates()).zsamb")
    titles = sorted(path.stem for path in workflows.FOLDER.parent.glob("*.json"))
    assert sorted(listed) == titles
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("zsamb", exact=True).first.click()
    page.get_by_text(titles[0], exact=True).first.wait_for(timeout=10_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=SHOTS / "templates.png")
    page.keyboard.press("Escape")


def test_a_blueprint_draws(page):
    show(page, json.loads((workflows.FOLDER.parents[1] / "subgraphs" / "Style-Aligned Set.json").read_text()))
    page.evaluate("""() => {
        const [set] = app.graph._nodes;
        const demo = LiteGraph.createNode('ZSAMB_LoadDemoModel'), save = LiteGraph.createNode('SaveImage');
        app.graph.add(demo); app.graph.add(save);
        for (const [slot, name] of [[0, 'model'], [1, 'clip'], [2, 'vae']])
            demo.connect(slot, set, set.inputs.findIndex((i) => i.name === name));
        set.connect(0, save, 0);
        const give = {
            Width: 128, Height: 128, Steps: 3, 'Prompts, one per line': 'a cat\\na boat',
            'Style, behind every line': 'in lava style',
        };
        for (const w of set.widgets) if (w.name in give) w.value = give[w.name];
    }""")
    prompt = as_prompt(page)["output"]
    assert {"ZSAMB_PromptSet", "KSampler"} <= {node["class_type"] for node in prompt.values()}
    queue(page)
    (images,) = page.evaluate("() => Object.values(arrived).map((o) => o.images)")
    assert len(images) == 2
