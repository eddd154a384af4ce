"""Names in every script, from the manifest to the paths on stdout, whatever these can show."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.core.headless.strange_server import WORKFLOW, strange_server
from zsamb_core import cli
from zsamb_core.console import say, show_step, take_any_text, tell

NAMES = [
    "plain", "caf\xe9", "\u732b \u9ce5", "\u043a\u043e\u0448\u043a\u0430", "\u05d7\u05ea\u05d5\u05dc",
    "\u0642\u0637\u0629", "\u092c\u093f\u0932\u094d\u0932\u0940", "\u0e41\u0e21\u0e27", "e\u0301t\xe9",
    "\U0001f408\u200d\u2b1b", "\xdf\u0131\u0130",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server():
    with strange_server() as server:
        yield server


@pytest.fixture
def args(tmp_path, server):
    """The command for a row of each name, with a title and a picture of that name."""
    server.reset()
    workflow = json.loads(json.dumps(WORKFLOW))
    workflow["2"]["_meta"] = {"title": NAMES[3]}
    (tmp_path / f"{NAMES[2]}.json").write_text(json.dumps(workflow))
    lines = []
    for i, name in enumerate(NAMES):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
        lines.append({"output": name, f"{NAMES[3]}.seed": i, "image:1": f"{name}.png"})
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    flow, out = tmp_path / f"{NAMES[2]}.json", tmp_path / "\xf1and\xfa \u9ce5"
    return list(map(str, (flow, "--manifest", tmp_path / "rows.jsonl", "--server", server.url, "--out", out)))


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii", "utf-8"])
def test_names_of_every_script_survive_every_step(args, server, monkeypatch, encoding):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, "strict", newline="\n") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert cli.main(["run", *args]) == 0
    log = err.buffer.getvalue().decode(encoding)
    assert f"{len(NAMES)} done, 0 failed, 0 not run" in log and "Traceback" not in log
    # On the server, as they are.
    assert server.sent == [f"{name}.png" for name in NAMES]
    folder = Path(args[-1])
    assert sorted(p.name for p in folder.iterdir()) == sorted(NAMES)
    record = json.loads((folder / NAMES[2] / "run.json").read_text())
    assert record["workflow"]["2"]["_meta"]["title"] == NAMES[3]
    assert record["pictures"]["1"].endswith(f"{NAMES[2]}.png")
    # On stdout, a line each, and what its encoding lacks as an escape.
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert len(lines) == len(NAMES)
    for name, line in zip(NAMES, lines, strict=True):
        shown = str(folder / name / "001.png").encode(encoding, "backslashreplace").decode(encoding)
        assert line == shown
    assert cli.main(["run", *args]) == 0
    assert "rows are complete already" in err.buffer.getvalue().decode(encoding)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text there")
def test_names_that_are_no_text_reach_stdout_as_they_are(tmp_path, server, monkeypatch):
    """Linux' names are bytes, and a script must find the file by what it reads."""
    server.reset()
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))
    picture, folder = (os.fsencode(tmp_path / "x") + b"\xe9\xff" + end for end in (b".png", b""))
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", picture)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", newline="\n")
    monkeypatch.setattr(sys, "stdout", out)
    words = ["--image", "1=" + os.fsdecode(picture), "--server", server.url, "--out", os.fsdecode(folder)]
    assert cli.main(["run", str(tmp_path / "flow.json"), *words]) == 0
    path = out.buffer.getvalue().strip()
    assert path == folder + b"/001.png" and os.path.exists(path) and server.sent == ["x__.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
def test_a_closed_stdout_does_not_stop_a_batch(args):
    """As by ``| head -n 1``."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "zsamb_core", "run", *args]
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60)
    os.close(write)
    log = done.stderr.decode()
    assert done.returncode == 0 and f"{len(NAMES)} done" in log and "Traceback" not in log
    assert log.count("stdout takes no more") == 1 and "BrokenPipeError" not in log


def test_a_terminal_is_shown_nothing_that_moves_it(monkeypatch):
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
    monkeypatch.setattr(sys, "stderr", err)
    say("a\x1b[2J\x07\r\x9b1m \ud800 \u202egnp\nb " + "x" * 20_000)
    show_step("a\nlong \x1b label " + "y" * 500, 1, 1)
    text = err.buffer.getvalue().decode()
    assert text.startswith("a\\x1b[2J\\x07\\r\\x9b1m \\ud800 \\u202egnp\nb xxx") and len(text) < 11_000
    assert text.splitlines()[-1].startswith("a long \\x1b label yyy") and text.endswith(" 1/1\n")


def test_streams_that_are_not_there(monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    take_any_text()
    say("x")
    show_step("x", 1, 1)
    tell([Path("x")])
