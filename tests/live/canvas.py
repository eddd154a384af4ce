"""What the tests of the canvas do on the page."""

from pathlib import Path

SHOTS = Path(__file__).resolve().parents[2] / "output" / "screenshots"
FIT = """() => {
    const nodes = app.graph._nodes, ds = app.canvas.ds;
    const left = Math.min(...nodes.map((n) => n.pos[0])), top = Math.min(...nodes.map((n) => n.pos[1] - 40));
    const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
    const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
    ds.scale = Math.min(1700 / (right - left), 1000 / (bottom - top), 1);
    ds.offset = [80 / ds.scale - left, 60 / ds.scale - top];
    app.canvas.draw(true, true);
}"""
PROBLEMS = """() => {
    const found = [];
    for (const node of app.graph._nodes) {
        if (!LiteGraph.registered_node_types[node.type]) found.push(`${node.type} is not known`);
        for (const w of node.widgets ?? []) {
            const o = w.options ?? {};
            if (w.value < (o.min ?? w.value) || w.value > (o.max ?? w.value))
                found.push(`${node.type}.${w.name} is ${w.value}, beyond ${o.min}..${o.max}`);
            if (w.value === undefined || Number.isNaN(w.value))
                found.push(`${node.type}.${w.name} has no value`);
            const choices = Array.isArray(o.values) ? o.values : null;
            const file = /\\.(safetensors|png|wav|pt)$|\\//.test(w.value);
            if (choices && typeof w.value === 'string' && !file && !choices.includes(w.value))
                found.push(`${node.type}.${w.name} is ${w.value}, none of its choices`);
        }
    }
    return found;
}"""


def numbered(api, first):
    """The workflow with numbers that no other on the page has."""

    def moved(value):
        link = isinstance(value, list) and len(value) == 2 and value[0] in api
        return [str(int(value[0]) + first), value[1]] if link else value

    return {
        str(int(key) + first): {
            **node, "inputs": {name: moved(value) for name, value in node["inputs"].items()}
        }
        for key, node in api.items()
    }  # fmt: skip


LISTEN = """() => {
    window.arrived = {}; window.finished = 0;
    if (!window.listening) {
        window.listening = true;
        app.api.addEventListener('executed', (e) => { arrived[e.detail.node] = e.detail.output; });
        app.api.addEventListener('execution_success', () => { finished += 1; });
    }
}"""


def queue(page):
    """Run what is on the canvas, from the page, to its end."""
    page.evaluate(LISTEN)
    page.evaluate("async () => { await app.queuePrompt(0, 1); }")
    page.wait_for_function("() => finished === 1", timeout=120_000)
