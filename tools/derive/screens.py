"""Screenshots of all graphs at the zoom they open with, in both node styles, to look at:
``python -m tools.derive.screens FOLDER``, a folder outside the repository.
"""

import argparse
import json
import tempfile
from pathlib import Path

from ..hosting.browser import nodes_2, open_page, show
from ..hosting.host import find_host
from ..hosting.server import Server

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
STYLES = {"classic": False, "nodes 2.0": True}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.derive.screens", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        Server(find_host(), Path(base)) as server,
        open_page(server.url, 1900, 1000) as page,
    ):
        for style, on in STYLES.items():
            nodes_2(page, on)
            for path in sorted(WORKFLOWS.glob("*.json")):
                show(page, json.loads(path.read_text()))
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / f"{path.stem}, {style}.png")
                print(f"{path.stem}, {style}", flush=True)


if __name__ == "__main__":
    main()
