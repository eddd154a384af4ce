"""The texts under ``locales/``: the English ones are what the nodes declare, every other language is complete
and faithful to them, the host serves all, and its front end shows them.
"""

import json
import re
import urllib.request
from collections import Counter

import pytest

from tests.lacking import need_browser
from tools.derive import locales
from tools.hosting.browser import open_page

pytestmark = pytest.mark.live

REGENERATE = "run `python -m tools.derive.locales`, and translate what it prints"
TRANSLATED = [language for language in locales.languages() if language != "en"]

# What is the same in every language: names, and the blocks as the host calls them.
SAME = re.compile(r"Z-SAMB|clip|vae|cfg|CLIP|JSON|VAE|Latent|Top K|(input|middle|output) \d")
# What a translation must keep: template fields, quoted code, numbers, paths, environment variables, endings.
KEPT = re.compile(
    r"\{\w+\}|`[^`]*`|\d+(?:\.\d+)*|[\w.-]+(?:/[\w.-]*\w)+|\b[A-Z]+(?:_[A-Z]+)+\b|(?<!\w)\.[a-z]{2,}\b"
)
# The script that a language's texts are in, where it is not the Latin one.
SCRIPT = {"zh": re.compile("[\u4e00-\u9fff]")}
# More English words in a row than any name, quoted option or example has.
ENGLISH_RUN = re.compile(r"[A-Za-z']{2,}(?: [A-Za-z']+){4,}")
# The host's nodes that the texts speak of, called in every language as its front end does.
HOST_NODES = (
    "VAEEncode",
    "VAEDecode",
    "KSampler",
    "CheckpointLoaderSimple",
    "EmptyLatentImage",
    "ConditioningSetProperties",
)


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


@pytest.fixture(scope="module")
def english():
    return locales.read("en")


def place(key):
    return " > ".join(key)


def problems(faults):
    return "\n".join(f"{place(k)}: {what}" for k, what in faults)


def test_english_is_what_the_nodes_declare(object_info, english):
    now = locales.declared(object_info)
    changed = [k for k in now.keys() | english.keys() if now.get(k) != english.get(k)]
    assert not changed, f"{REGENERATE}: {sorted(map(place, changed))}"
    assert list(now) == list(english), f"the order of nodes has changed: {REGENERATE}"


def test_every_node_of_the_pack_has_all_its_texts(object_info, english):
    """Counted here without the tool that writes the file."""
    kinds = [kind for kind in object_info if kind.startswith("ZSAMB_")]
    assert len(kinds) >= 29
    for kind in kinds:
        node = object_info[kind]
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        for name in inputs:
            assert ("nodeDefs", kind, "inputs", name, "name") in english
            assert english["nodeDefs", kind, "inputs", name, "tooltip"] == inputs[name][1]["tooltip"]
        for i in range(len(node["output"])):
            assert ("nodeDefs", kind, "outputs", str(i), "name") in english
        assert {("nodeDefs", kind, part) for part in ("display_name", "description")} <= english.keys()


def test_zh_is_there():
    assert "zh" in TRANSLATED


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_has_every_text(language, english):
    texts = locales.read(language)
    missing = sorted(map(place, english.keys() - texts.keys()))
    assert not missing, f"{language} lacks {missing}: {REGENERATE}"
    extra = sorted(map(place, texts.keys() - english.keys()))
    assert not extra, f"{language} has {extra}, which the nodes do not: {REGENERATE}"
    assert list(texts) == list(english), f"{language} is in another order: {REGENERATE}"
    empty = [place(k) for k, text in texts.items() if not isinstance(text, str) or not text.strip()]
    assert not empty


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_is_translated(language, english):
    script = SCRIPT.get(language)
    faults = []
    for key, text in locales.read(language).items():
        if SAME.fullmatch(text):
            continue
        if text == english[key] or (script and not script.search(text)):
            faults.append((key, f"still English: {text}"))
        elif run := ENGLISH_RUN.search(text):
            faults.append((key, f"English within: {run[0]}"))
    assert not faults, problems(faults)


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_keeps_fields_numbers_and_paths(language, english):
    faults = []
    for key, text in locales.read(language).items():
        if key[-1] == "name":  # identifiers in English: input_4
            continue
        wanted = Counter(KEPT.findall(english[key]))
        if (got := Counter(KEPT.findall(text))) != wanted:
            faults.append((key, f"lacks {[*(wanted - got)]}, has {[*(got - wanted)]} more"))
    assert not faults, problems(faults)


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_names_the_options_as_the_widgets_show_them(language, object_info, english):
    """The front end shows a combo's options untranslated, so a tooltip that explains them must name them."""
    texts, faults, named = locales.read(language), [], 0
    for key in english:
        if key[0] != "nodeDefs" or key[2] != "inputs" or key[-1] != "tooltip":
            continue
        node = object_info[key[1]]["input"]
        kind, *rest = {**node.get("required", {}), **node.get("optional", {})}.get(key[3], (None,))
        for option in rest[0].get("options", []) if str(kind).split(",")[0] == "COMBO" else []:
            if re.search(rf"(?<!\w){re.escape(option)}[:,]", english[key]):
                named += 1
                if option not in texts[key]:
                    faults.append((key, f"does not name the option {option!r}"))
    assert not faults, problems(faults)
    assert named > 30


def check_mentions(names, english, texts):
    """Where an English text speaks of a node, the other says its other name. Returns how many do."""
    assert len(set(names.values())) == len(names), "two nodes of one name"
    # the longest first: KSampler (Record Reference) is no KSampler
    pattern = re.compile("|".join(rf"\b{re.escape(name)}" for name in sorted(names, key=len, reverse=True)))
    faults, mentions = [], 0
    for key, text in english.items():
        for name in pattern.findall(text) if key[-1] in ("tooltip", "description") else []:
            mentions += 1
            if names[name] not in texts[key]:
                faults.append((key, f"{name} is called {names[name]}"))
    assert not faults, problems(faults)
    return mentions


def titles(english, texts):
    return {text: texts[k] for k, text in english.items() if k[-1] == "display_name"}


@pytest.mark.parametrize("language", TRANSLATED)
def test_translation_calls_nodes_by_their_translated_names(language, english):
    texts = locales.read(language)
    assert check_mentions(titles(english, texts), english, texts) > 30


@pytest.mark.parametrize("language", ["en", *TRANSLATED])
def test_compiled_texts_have_no_message_syntax(language):
    """The front end compiles all but tooltips as messages: a brace there would be a field, a bar a plural."""
    for key, text in locales.read(language).items():
        if key[-1] != "tooltip":
            assert not locales.SYNTAX.search(re.sub(r"\{'.'\}", "", text)), f"{place(key)}: {text}"


def test_regenerating_takes_out_what_is_out_of_date_and_keeps_the_rest():
    before = {("a",): "one", ("b",): "two", ("c",): "three"}
    now = {("c",): "three", ("a",): "one", ("b",): "two, changed", ("d",): "four"}
    texts = {("a",): "eins", ("b",): "zwei", ("c",): "drei", ("x",): "nichts"}
    assert list(locales.kept(texts, before, now).items()) == [(("c",), "drei"), (("a",), "eins")]
    # a translation put back after the English file was written is kept
    assert locales.kept(texts, now, now)["b",] == "zwei"


def test_names_and_descriptions_are_escaped_and_tooltips_are_not():
    node = {
        "python_module": "custom_nodes.x",
        "category": "a|b",
        "display_name": "50% {x}",
        "description": "",
        "input": {"required": {"text": ["STRING", {"tooltip": "Of {x}."}]}},
        "output_name": ["mail@x"],
        "output_tooltips": [None],
    }
    texts = locales.declared({"N": node})
    assert texts["main", "nodeCategories", "a|b"] == "a{'|'}b"
    assert texts["nodeDefs", "N", "display_name"] == "50{'%'} {'{'}x{'}'}"
    assert texts["nodeDefs", "N", "inputs", "text", "tooltip"] == "Of {x}."
    assert texts["nodeDefs", "N", "outputs", "0", "name"] == "mail{'@'}x"
    assert ("nodeDefs", "N", "outputs", "0", "tooltip") not in texts


def test_host_serves_every_language(server):
    served = server.get("/i18n")
    for language in ("en", *TRANSLATED):
        for name in locales.FILES:
            content = json.loads((locales.FOLDER / language / f"{name}.json").read_text(encoding="utf-8"))
            texts = served[language] if name == "main" else served[language][name]
            assert content and content.items() <= texts.items()


def post_settings(server, **settings):
    body = json.dumps({f"Comfy.{k.replace('_', '.')}": v for k, v in settings.items()}).encode()
    request = urllib.request.Request(f"{server.url}/settings", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200


ADD = """kind => {
  const node = LiteGraph.createNode(kind);
  app.graph.add(node);
  node.pos = [300, 150];
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [0, 0];
  app.canvas.setDirty(true, true);
  const slot = s => [s.name, s.label || s.localized_name || s.name];
  return {
    id: node.id,
    title: node.title,
    category: node.constructor.category,
    inputs: Object.fromEntries(node.inputs.map(slot)),
    outputs: node.outputs.map(s => slot(s)[1]),
    widgets: Object.fromEntries((node.widgets || []).map(w => [w.name, w.label || w.name])),
  };
}"""
POINT = """([id, name]) => {
  const node = app.graph.getNodeById(id);
  const i = node.inputs.findIndex(s => s.name === name);
  const at = node.getConnectionPos(true, i);
  const box = app.canvas.canvas.getBoundingClientRect();
  const [x, y] = app.canvas.ds.convertOffsetToCanvas(at);
  return [box.left + x, box.top + y];
}"""


def test_front_end_shows_chinese(server, object_info, english, tmp_path):
    need_browser()
    zh = locales.read("zh")
    kind = "ZSAMB_ContextToPrompt"
    post_settings(server, Locale="zh", VueNodes_Enabled=False, TutorialCompleted=True, EnableTooltips=True)
    try:
        with open_page(server.url, 1400, 900) as page:
            page.evaluate("() => app.graph.clear()")
            types = {object_info[t]["display_name"]: t for t in HOST_NODES}
            title = "type => LiteGraph.registered_node_types[type].title"
            host_names = {name: page.evaluate(title, t) for name, t in types.items()}
            own = titles(english, zh)
            extra = check_mentions(own | host_names, english, zh) - check_mentions(own, english, zh)
            assert extra >= len(HOST_NODES)
            shown = page.evaluate(ADD, kind)

            def text(*keys, of=kind):
                return zh[("nodeDefs", of, *keys)]

            assert shown["title"] == text("display_name") != english["nodeDefs", kind, "display_name"]
            assert shown["category"].split("/") == [
                zh["main", "nodeCategories", part] for part in ("style", "Z-SAMB", "context")
            ]
            names = [k[3] for k in zh if k[:3] == ("nodeDefs", kind, "inputs") and k[-1] == "name"]
            assert shown["inputs"] == {name: text("inputs", name, "name") for name in shown["inputs"]}
            assert set(shown["inputs"]) | set(shown["widgets"]) >= set(names)
            assert shown["widgets"].items() >= {("fusion", text("inputs", "fusion", "name"))}
            assert shown["outputs"] == [text("outputs", str(i), "name") for i in range(3)]

            def hover(node, name):
                from playwright.sync_api import TimeoutError

                for _ in range(20):  # the canvas takes no notice while it is still being set up
                    page.mouse.move(900, 700)
                    page.mouse.move(*page.evaluate(POINT, [node, name]), steps=3)
                    try:
                        page.wait_for_selector(".node-tooltip:visible", timeout=2_000)
                        break
                    except TimeoutError:
                        continue
                return page.inner_text(".node-tooltip")

            assert hover(shown["id"], "image") == text("inputs", "image", "tooltip")
            page.screenshot(path=tmp_path / "zh.png")

            # a socket of an autogrow input, and a widget with braces, which the front end must not compile
            for other, name in (
                ("ZSAMB_MultiRefBlend", "references.reference0"),
                ("ZSAMB_DescribeWeather", "units"),
            ):
                page.evaluate("() => app.graph.clear()")
                node = page.evaluate(ADD, other)["id"]
                assert hover(node, name) == text("inputs", name.replace(".", "_"), "tooltip", of=other)
    finally:
        post_settings(server, Locale="en")
