"""What saved workflows know of the nodes: ``python -m nox -s snapshot`` writes it to
``tests/live/object_info.json`` from a real server's ``/object_info``, and a test compares the two.
"""

import json
import tempfile
from pathlib import Path

from tools.hosting.host import find_host
from tools.hosting.server import Server

FILE = Path(__file__).resolve().parents[2] / "tests" / "live" / "object_info.json"
# Tooltips and looks are left out: no workflow depends on them.
KEPT = ("default", "min", "max", "step", "options", "multiline", "forceInput", "control_after_generate")
# Combos that list files. The lists are the user's, so their options are not the pack's promise.
FILE_INPUTS = ("file", "name", "encoder")
# Lists of the host, which grow with it.
HOST_INPUTS = ("sampler_name", "scheduler")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
WHAT_TO_DO = (
    "Workflows that people saved name nodes, inputs and options as they were: what is removed or renamed"
    " breaks them. Keep the old name, or say in CHANGELOG.md what breaks and what to do. If the change is"
    " meant, run `python -m nox -s snapshot` and commit tests/live/object_info.json."
)
Snapshot = dict[str, dict]


def public(object_info: dict) -> Snapshot:
    """The pack's nodes of the host's ``/object_info``, without texts and files."""
    return {
        name: {
            "display_name": info["display_name"],
            "category": info["category"],
            "inputs": _inputs(info["input"], info["input_order"]),
            "outputs": [
                {"name": output, "type": kind}
                for output, kind in zip(info["output_name"], info["output"], strict=True)
            ],
            **({"output_node": True} if info["output_node"] else {}),
        }
        for name, info in sorted(object_info.items())
        if name.startswith("ZSAMB_")
    }


def _inputs(groups: dict, order: dict) -> dict[str, dict]:
    inputs = {}
    for group in ("required", "optional"):
        for name in order.get(group, []):
            kind, *rest = groups[group][name]
            options = rest[0] if rest else {}
            shape: dict = {"type": kind, "group": group}
            shape |= {key: options[key] for key in KEPT if key in options}
            if kind == "COMBO" and name in (*FILE_INPUTS, *HOST_INPUTS):
                shape["options"] = "files" if name in FILE_INPUTS else "the host's"
            if "template" in options:  # an input that grows
                template = options["template"]
                inner = template["input"]
                shape |= {key: value for key, value in template.items() if key != "input"}
                shape["of"] = _inputs(inner, {group: list(inner.get(group, {})) for group in inner})
            inputs[name] = shape
    return inputs


def differences(before: Snapshot, now: Snapshot) -> list[str]:
    """What is no longer as it was, a line each; none when the two are equal."""
    lines = []
    for node in sorted({*before, *now}):
        if node not in now:
            lines.append(f"{node}: the node is gone or renamed")
        elif node not in before:
            lines.append(f"{node}: the node is new")
        else:
            lines += [f"{node}: {line}" for line in _node_differences(before[node], now[node])]
    return lines


def _node_differences(before: dict, now: dict) -> list[str]:
    lines = []
    was, is_ = before["inputs"], now["inputs"]
    for name in [*was, *(n for n in is_ if n not in was)]:
        if name not in is_:
            lines.append(f"input {name!r} is gone or renamed")
        elif name not in was:
            lines.append(f"{is_[name]['group']} input {name!r} is new")
        else:
            lines += [
                f"input {name!r}: {key} was {_shown(was[name], key)}, is {_shown(is_[name], key)}"
                for key in _unequal(was[name], is_[name])
            ]
    # The canvas saves the values of widgets by position, so one more is safe at the end alone.
    places, new_places = widgets(was), widgets(is_)
    if new_places[: len(places)] != places:
        lines.append(f"the widgets were, in order, {', '.join(places)}; they are {', '.join(new_places)}")
    lines += [
        f"{key} was {_shown(before, key)}, is {_shown(now, key)}"
        for key in _unequal(before, now)
        if key != "inputs"
    ]
    return lines


def _unequal(before: dict, now: dict) -> list[str]:
    return [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]


def _shown(values: dict, key: str) -> str:
    return json.dumps(values[key]) if key in values else "not there"


def widgets(inputs: dict[str, dict]) -> list[str]:
    """The inputs that have a widget, in order. Of an input of several types the first is the widget's."""
    return [
        n
        for n, entry in inputs.items()
        if entry["type"].split(",")[0] in WIDGETS and not entry.get("forceInput")
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as base, Server(find_host(), Path(base)) as server:
        now = public(server.get("/object_info"))
    FILE.write_text(json.dumps(now, indent=1) + "\n", encoding="ascii")
    print(f"{FILE}: {len(now)} nodes")


if __name__ == "__main__":
    main()
