// The server lists a pack's templates as the disk has them, in any order. Ours begin with their chapters.
import { app } from "../../scripts/app.js";

// The pack's folder, whatever it is called: this file is served under its name.
const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));

app.registerExtension({
    name: "zsamb.template_order",
    init() {
        const list = app.api.getWorkflowTemplates.bind(app.api);
        app.api.getWorkflowTemplates = async () => {
            const templates = await list();
            templates[PACK]?.sort((a, b) => a.localeCompare(b));
            return templates;
        };
    },
});
