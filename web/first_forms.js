// The canvas saves the values of widgets by place. In the first workflows of the pack two nodes had three
// widgets, and later ones came in between: put the three where they belong now.
import { app } from "../../scripts/app.js";

const FIRST = {
    ZSAMB_SharedAttention: ([strength, shift, scale]) => [strength, "custom", shift, scale],
    ZSAMB_DDIMInvert: ([steps, cfg, scheduler]) => [steps, cfg, 0, scheduler],
};

app.registerExtension({
    name: "zsamb.first_forms",
    beforeConfigureGraph(graph) {
        for (const node of graph.nodes ?? []) {
            const values = node.widgets_values;
            if (FIRST[node.type] && values?.length === 3) node.widgets_values = FIRST[node.type](values);
        }
    },
});
