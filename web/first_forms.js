// The canvas saves the values of widgets by place. In the first workflows of the pack two nodes had three
// widgets, and later ones came in between: put the three where they belong now. And share_group_norm was a
// switch until it got the choice auto: a saved true is on, a saved false is off.
import { app } from "../../scripts/app.js";

const PATCH = "ZSAMB_SharedAttention";
const FIRST = {
    [PATCH]: ([strength, shift, scale]) => [
        strength, "custom", shift, scale, "reference", "all", 0, 0, 1, "off", false, 0,
    ],
    ZSAMB_DDIMInvert: ([steps, cfg, scheduler]) => [steps, cfg, 0, scheduler],
};

function inWords(widget) {
    if (typeof widget.value === "boolean") widget.value = widget.value ? "on" : "off";
}

app.registerExtension({
    name: "zsamb.first_forms",
    beforeConfigureGraph(graph) {
        for (const node of graph.nodes ?? []) {
            const values = node.widgets_values;
            if (FIRST[node.type] && values?.length === 3) node.widgets_values = FIRST[node.type](values);
        }
    },
    nodeCreated(node) {
        const widget = node.comfyClass === PATCH && node.widgets?.find((w) => w.name === "share_group_norm");
        if (!widget) return;
        // Graphs configure a node, also in a subgraph; API workflows set its widgets one by one.
        for (const [of, name] of [[node, "onConfigure"], [widget, "callback"]]) {
            const before = of[name];
            of[name] = function (...given) {
                inWords(widget);
                return before?.apply(this, given);
            };
        }
    },
});
