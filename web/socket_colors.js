// A color for each kind of socket that the pack brings. The page sets its colors anew with every palette, and
// to nothing where the palette has none: then the pack's stand. A palette that names these kinds wins.
import { app } from "../../scripts/app.js";

const COLORS = {
    STYLE_REFERENCE: "#C6E03C",
    STYLE_EMBEDS: "#3CC8B4",
    STYLE_ADAPTER: "#D08A4E",
    BLOCK_WEIGHTS: "#7F92E8",
    VISION_MODEL: "#B55FD3",
    CAPTION_MODEL: "#E5739B",
    SPEECH_MODEL: "#F0D29A",
    MUSIC_MODEL: "#5FA36A",
    SUMMARY_MODEL: "#B9C2CC",
    ATTENTION_RECORD: "#E8604C",
};

function stand(colors) {
    for (const [type, ours] of Object.entries(COLORS)) {
        let theirs = colors[type];
        Object.defineProperty(colors, type, {
            get: () => theirs || ours,
            set: (color) => { theirs = color; },
            enumerable: true,
            configurable: true,
        });
    }
}

app.registerExtension({
    name: "zsamb.socket_colors",
    init() {
        stand(app.canvas.default_connection_color_byType);
        stand(LGraphCanvas.link_type_colors);
        // In Nodes 2.0 a palette's colors are on the element itself, and come before this sheet.
        const sheet = new CSSStyleSheet();
        const lines = Object.entries(COLORS).map(([type, color]) => `--color-datatype-${type}: ${color};`);
        sheet.replaceSync(`:root { ${lines.join(" ")} }`);
        document.adoptedStyleSheets.push(sheet);
    },
});
