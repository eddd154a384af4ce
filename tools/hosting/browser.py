"""ComfyUI's own page in headless Chromium, by Playwright: for deriving the canvas workflows, for pictures of
nodes, and for the tests.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
READY = """() => window.app?.graph && window.LiteGraph
    && Object.keys(LiteGraph.registered_node_types).some((name) => name.startsWith('ZSAMB_'))"""


@contextmanager
def open_page(url: str, width: int = 1800, height: int = 1100) -> Iterator:
    """A Playwright page on the server's canvas, ready and with nothing over it. ``page.errors``: (kind, text)
    of the console's errors and of scripts that failed.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, base_url=url)
        page.errors = []
        page.on("console", lambda m: page.errors.append((m.type, m.text)) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.errors.append(("script", str(error))))
        try:
            # Else a new user is shown the template browser.
            page.request.post(f"{url}/api/settings", data={"Comfy.TutorialCompleted": True})
            reload(page)
            yield page
        finally:
            browser.close()


def reload(page) -> None:
    """The canvas anew, once it is ready."""
    page.goto("/")
    page.wait_for_function(READY, timeout=180_000)
    page.wait_for_timeout(1500)


def nodes_2(page, on: bool) -> None:
    """Draw nodes in the style "Nodes 2.0", or in the classic one."""
    page.request.post("/api/settings", data={"Comfy.VueNodes.Enabled": on})
    reload(page)


def as_prompt(page) -> dict:
    """{"output": the API form, "workflow": the canvas form} of what is on the canvas."""
    return page.evaluate("async () => await app.graphToPrompt()")


def show_api(page, workflow: dict, anew: bool = True) -> None:
    """Put an API workflow onto the canvas, which is made anew: the page keeps pictures and linked widgets'
    values by a node's number, from one graph to the next. Without ``anew`` its numbers must be its own.
    """
    if anew:
        reload(page)
    page.evaluate("async (api) => await app.loadApiJson(api, 'workflow')", workflow)


def show(page, workflow: dict) -> None:
    """Put a canvas workflow onto the canvas."""
    page.evaluate("async (ui) => await app.loadGraphData(ui)", workflow)
    page.wait_for_timeout(300)
