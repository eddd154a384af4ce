"""From a click on Run to the pictures: the three first graphs in ComfyUI's own page in headless Chromium.
Nothing but the published archive is in a fresh ComfyUI. ``--screens FOLDER`` keeps what the page shows.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from tools.hosting.archive import ROOT, installed
from tools.hosting.browser import open_page, show

LISTEN = """() => {
    window.finished = 0;
    app.api.addEventListener('execution_success', () => { finished += 1; });
}"""
SHOWN = """(runs) => finished === runs && app.graph._nodes.filter((n) => n.type === 'PreviewImage')
    .every((n) => n.imgs?.length && n.imgs.every((picture) => picture.complete))"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, help="a folder for pictures of the page before and after")
    screens = parser.parse_args().screens
    with (
        tempfile.TemporaryDirectory() as base,
        installed(Path(base)) as server,
        open_page(server.url) as page,
    ):
        page.evaluate(LISTEN)
        for number, path in enumerate(sorted((ROOT / "workflows").glob("[0-9]*Try it*.json")), 1):
            show(page, json.loads(path.read_text(encoding="utf-8")))
            keep(page, screens, f"{path.stem} opened")
            start = time.perf_counter()
            page.get_by_test_id("queue-button").click()
            page.wait_for_function(SHOWN, arg=number, timeout=600_000)
            seconds = time.perf_counter() - start
            print(f"{path.stem}: {seconds:.1f} s from the click to the pictures", flush=True)
            keep(page, screens, f"{path.stem} drawn")


def keep(page, folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    main()
