"""Batches of rows for the whole command, and what they leave behind."""

import json
import re

from PIL import Image

from tests.core.headless.strange_server import WORKFLOW
from zsamb_core import cli


class Batch:
    """Rows, (name, seed), each with a picture of its own, as a batch in a folder."""

    def __init__(self, folder, rows):
        self.folder, self.out, self.rows = folder, folder / "out", rows
        (folder / "flow.json").write_text(json.dumps(WORKFLOW))
        picture = folder / "picture.png"
        Image.new("RGB", (4, 4)).save(picture)
        lines = []
        for name, seed in rows:
            (folder / f"{seed}.png").write_bytes(picture.read_bytes())
            lines.append(json.dumps({"output": name, "seed": seed, "image:1": f"{seed}.png"}))
        (folder / "rows.jsonl").write_text("\n".join(lines))

    def run(self, *servers):
        """The exit code; what is said goes to the test's own streams."""
        where = [word for each in servers for word in ("--server", each.url)]
        paths = (self.folder / "flow.json", "--manifest", self.folder / "rows.jsonl", "--out", self.out)
        return cli.main(["run", *map(str, paths), *where])

    def complete(self):
        """Servers' addresses by the names of the rows that are done; nothing else lies in their folders."""
        servers = {}
        for folder in sorted(self.out.iterdir()) if self.out.exists() else ():
            if not folder.is_dir() or folder.is_symlink():
                continue
            record = json.loads((folder / "run.json").read_text())
            files = [entry["name"] for entry in (*record["files"], *record["texts"])]
            assert sorted(p.name for p in folder.iterdir()) == sorted([*files, "run.json"])
            servers[folder.name] = record["server"]
        return servers


def refuse_ugly(err):
    """What no message may be."""
    assert "Traceback" not in err and "error of this program" not in err, err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", err)
    assert max(map(len, err.splitlines()), default=0) < 1500
