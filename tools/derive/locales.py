"""Write ``locales/en`` from what the nodes declare: ``python -m tools.derive.locales``.

The nodes are the source, read from the running host's ``/object_info``. In every other language, a text whose
English is new or has changed is taken out, and printed: translate it, put it back anywhere in its node, and
run this again to bring all into the order of the English file.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from ..hosting.host import find_host
from ..hosting.server import PACK, Server

FOLDER = PACK / "locales"
FILES = ("main", "nodeDefs")
Key = tuple[str, ...]
Texts = dict[Key, str]

# The front end compiles names and descriptions as messages, in which these are syntax; tooltips it reads raw.
SYNTAX = re.compile(r"[@{}|%]")
RAW = "tooltip"


def message(text: str) -> str:
    """A text that the front end's message compiler gives back as it is."""
    return SYNTAX.sub(lambda match: f"{{'{match[0]}'}}", text)


def slots(name: str, template: dict[str, Any]) -> dict[str, str]:
    """The sockets that an autogrow input may have, each with its tooltip, as the front end looks them up:
    with an underscore in place of the dot.

    No names: it labels these sockets itself, and finds a named one's tooltip no longer.
    """
    inputs = {**template["input"].get("required", {}), **template["input"].get("optional", {})}
    ((_, *options),) = inputs.values()
    tooltip = options[0].get("tooltip") if options else None
    names = template.get("names") or [f"{template['prefix']}{i}" for i in range(template["max"])]
    return {f"{name}_{socket}": tooltip for socket in names} if tooltip else {}


def declared(object_info: dict[str, Any]) -> Texts:
    """Every text of the pack's nodes by its place: file, then keys."""
    texts: Texts = {}
    nodes = {k: v for k, v in object_info.items() if v["python_module"].startswith("custom_nodes.")}
    for category in (part for node in nodes.values() for part in node["category"].split("/")):
        texts["main", "nodeCategories", category] = message(category)
    for kind, node in nodes.items():
        here = ("nodeDefs", kind)
        texts[(*here, "display_name")] = message(node["display_name"])
        if node["description"]:
            texts[(*here, "description")] = message(node["description"])
        for group in ("required", "optional"):
            for name, (_, *options) in node["input"].get(group, {}).items():
                settings = options[0] if options else {}
                texts[(*here, "inputs", name, "name")] = message(settings.get("display_name") or name)
                if settings.get("tooltip"):
                    texts[(*here, "inputs", name, RAW)] = settings["tooltip"]
                if "template" in settings:
                    for socket, tooltip in slots(name, settings["template"]).items():
                        texts[(*here, "inputs", socket, RAW)] = tooltip
        for i, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True)):
            texts[(*here, "outputs", str(i), "name")] = message(name)
            if tooltip:
                texts[(*here, "outputs", str(i), RAW)] = tooltip
    return texts


def languages() -> list[str]:
    return sorted(p.name for p in FOLDER.iterdir() if p.is_dir()) if FOLDER.is_dir() else []


def flat(tree: Any, key: Key = ()) -> Texts:
    if not isinstance(tree, dict):
        return {key: tree}
    return {k: text for name, branch in tree.items() for k, text in flat(branch, (*key, name)).items()}


def nested(texts: Texts) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for (*path, last), text in texts.items():
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = text
    return tree


def read(language: str) -> Texts:
    """What a language's files hold; nothing where there are none."""
    texts: Texts = {}
    for name in FILES:
        path = FOLDER / language / f"{name}.json"
        if path.exists():
            texts |= flat(json.loads(path.read_text(encoding="utf-8")), (name,))
    return texts


def write(language: str, texts: Texts) -> None:
    tree = nested(texts)
    (FOLDER / language).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        content = json.dumps(tree.get(name, {}), ensure_ascii=False, indent=2)
        (FOLDER / language / f"{name}.json").write_text(content + "\n", encoding="utf-8", newline="\n")


def kept(translated: Texts, before: Texts, now: Texts) -> Texts:
    """The translations whose English is as it was, in the order of the English texts."""
    return {k: translated[k] for k, text in now.items() if k in translated and before.get(k, text) == text}


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        now = declared(server.get("/object_info"))
    before = read("en")
    write("en", now)
    print(f"en: {len(now)} texts")
    for language in languages():
        if language == "en":
            continue
        texts = kept(read(language), before, now)
        write(language, texts)
        missing = {k: text for k, text in now.items() if k not in texts}
        print(f"{language}: {len(texts)} texts, {len(missing)} to translate")
        if missing:
            print(json.dumps(nested(missing), ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
