"""Bypass and mute in the front end's own code: for every output of every node of the pack, which input it
passes on. Each socket is fed by a source of its own type, each output goes to a node that takes its type.
"""

import json

import pytest

from tests.lacking import need_browser
from tools.derive.titles import title_of
from tools.hosting import workflows
from tools.hosting.browser import as_prompt, open_page, show

pytestmark = pytest.mark.live
# What a user means by it, by node and output. All other outputs pass nothing on, and what needs them says so.
PASSED = {
    ("ZSAMB_SharedAttention", "model"): "model",
    ("ZSAMB_AdaINQueries", "model"): "model",
    ("ZSAMB_StyleBlockIPAdapter", "model"): "model",
    # One link of a chain is left out, the others stay.
    ("ZSAMB_StyleReference", "reference"): "others",
    ("ZSAMB_EncodeStyleImages", "embeds"): "others",
    ("ZSAMB_SubtractContent", "embeds"): "embeds",
    # As KSampler does.
    ("ZSAMB_DDIMInvert", "latent"): "latent",
    ("ZSAMB_RecordReference", "latent"): "latent_image",
    ("ZSAMB_MultiRefBlend", "latent"): "references.reference0",
    ("ZSAMB_MultiRefBlend", "reference"): "references.reference0",
    ("ZSAMB_PromptSetPart", "conditioning"): "conditioning",
    ("ZSAMB_ConditioningSet", "conditioning"): "conditionings.conditioning0",
    ("ZSAMB_RecordAttention", "model"): "model",
}
# Outputs at the end of a graph, to be looked at. Texts are left out too: the page cannot tell a node's text
# inputs apart.
LOOKED_AT = {
    ("ZSAMB_MultiRefBlend", "preview"), ("ZSAMB_CLIPScore", "picture"), ("ZSAMB_DINOStyleScore", "picture"),
    ("ZSAMB_ContactSheet", "sheet"), ("ZSAMB_AttentionPicture", "picture"),
}  # fmt: skip

# In the page: a bypassed (4) or muted (2) node between sources and takers. By output, the input whose source
# its taker is given, "" for none. ``open``: sockets that are left unconnected.
TRY = """async ([kind, mode, open]) => {
    app.graph.clear();
    const node = LiteGraph.createNode(kind);
    app.graph.add(node);
    const make = (name, build) => {
        const type = `zsamb-test/${name}`;
        if (!LiteGraph.registered_node_types[type]) {
            class Made extends LiteGraph.LGraphNode {
                constructor() { super(name); this.comfyClass = type; build(this); }
            }
            LiteGraph.registerNodeType(type, Made);
        }
        const made = LiteGraph.createNode(type);
        app.graph.add(made);
        return made;
    };
    const widgets = new Set((node.widgets ?? []).map((w) => w.name));
    const sources = {};
    for (let i = 0; i < node.inputs.length; i++) {  // an input that grows has more once one is connected
        const input = node.inputs[i];
        if (widgets.has(input.name) || open.includes(input.name) || i > 12) continue;
        const type = String(input.type).split(',').find((t) => node.outputs.some((o) => o.type === t))
            ?? String(input.type).split(',')[0];
        const source = make(`gives ${type}`, (made) => made.addOutput('out', type));
        source.connect(0, node, i);
        sources[source.id] = input.name;
    }
    const takers = node.outputs.map((output, i) => {
        const taker = make(`takes ${output.type}`, (made) => made.addInput('x', output.type));
        node.connect(i, taker, 0);
        return [output.name, taker.id];
    });
    node.mode = mode;
    const { output } = await app.graphToPrompt();
    return Object.fromEntries(takers.map(([name, id]) => {
        const given = output[id].inputs.x;
        return [name, given ? sources[given[0]] ?? 'unknown' : ''];
    }));
}"""


@pytest.fixture(scope="module")
def page(server):
    need_browser()
    with open_page(server.url) as page:
        yield page


@pytest.fixture(scope="module")
def ours(page):
    info = page.request.get("/object_info").json()
    return {kind: node for kind, node in info.items() if kind.startswith("ZSAMB_")}


def tried(page, kind, mode, left_open=()):
    return page.evaluate(TRY, [kind, mode, list(left_open)])


def test_a_bypassed_node_passes_on_what_a_user_means(page, ours):
    assert {kind for kind, _ in PASSED} <= set(ours)
    passes = {}
    for kind, node in ours.items():
        types = dict(zip(node["output_name"], node["output"], strict=True))
        for output, passed in tried(page, kind, 4).items():
            if (kind, output) not in LOOKED_AT and types[output] != "STRING":
                passes[kind, output] = passed
    assert {k: v for k, v in passes.items() if v} == PASSED


def test_the_end_of_a_chain_of_references_is_left_out_too(page):
    assert tried(page, "ZSAMB_StyleReference", 4, ["others"]) == {"reference": ""}
    assert tried(page, "ZSAMB_EncodeStyleImages", 4, ["others"]) == {"embeds": ""}


def test_a_muted_node_passes_nothing_on(page, ours):
    for kind in ours:
        assert set(tried(page, kind, 2).values()) <= {""}, kind


def test_a_chain_from_a_file_that_was_saved_before(page):
    """Its links name the places that the sockets had then; the page finds them by name."""
    before = json.loads(
        (workflows.FOLDER.parent / f"{title_of('style_aligned_two_references')}.json").read_text()
    )
    kind = "ZSAMB_StyleReference"
    for node in before["nodes"]:
        if node["type"] == kind:  # as the first form of the node was saved
            node["inputs"].sort(key=lambda i: i["name"] != "reference")
    for link in before["links"]:
        target = next(n for n in before["nodes"] if n["id"] == link[3])
        link[4] = next(i for i, entry in enumerate(target["inputs"]) if entry["link"] == link[0])
    show(page, before)
    whole = as_prompt(page)["output"]
    chain = {key: node["inputs"] for key, node in whole.items() if node["class_type"] == kind}
    (last,) = [key for key, inputs in chain.items() if "others" in inputs]
    (first,) = set(chain) - {last}
    assert chain[last]["others"] == [first, 0] and chain[last]["reference"] != chain[first]["reference"]
    page.evaluate("(id) => { app.graph.getNodeById(id).mode = 4; }", int(last))
    (patch,) = [n for n in as_prompt(page)["output"].values() if n["class_type"] == "ZSAMB_SharedAttention"]
    assert patch["inputs"]["reference"] == [first, 0]
