"""The command line and its client against real servers: changed inputs, pictures, errors, batches, servers
that go.
"""

import asyncio
import functools
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from tools.hosting import workflows
from zsamb_core.headless import client as client_module
from zsamb_core.headless.client import Client, Refused

pytestmark = pytest.mark.live
COMMAND = [sys.executable, "-m", "zsamb_core", "run"]
OLD_NAME = [sys.executable, "-m", "zsamb_core.run"]
LONG = ["--set", "KSampler.steps=400"]  # a run that is still going when something happens to it


def run(*args, command=COMMAND, **env):
    return subprocess.run(
        [*command, *map(str, args)],
        cwd=workflows.FOLDER.parents[1],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **env},
    )


@contextmanager
def started(*args):
    """The command, killed if it is still there at the end."""
    command = [*COMMAND, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell starts in the background ignores SIGINT, and so do its children.
    heed = None if os.name == "nt" else functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=workflows.FOLDER.parents[1], preexec_fn=heed, **pipes)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(what, seconds=60):
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
    return answer


def running(server):
    """Ids of the runs that the server is at."""
    return [item[1] for item in server.get("/queue")["queue_running"]]


def pictures(folder):
    return [np.asarray(Image.open(p).convert("RGB"), float) / 255 for p in sorted(folder.glob("*.png"))]


@pytest.fixture
def flow(tmp_path):
    """Paths of the demo twins of two workflows, with few steps."""
    paths = {}
    for name in ("prompts", "reference"):
        twin = workflows.demo_twin(workflows.load(f"style_aligned_{name}"))
        twin = workflows.fill(workflows.with_steps(twin, 3), prompts="a cat\na boat", style="")
        if name == "reference":
            twin = workflows.fill(twin, image="never_sent.png")
        paths[name] = tmp_path / f"{name}.json"
        paths[name].write_text(json.dumps(twin))
    return paths


@pytest.fixture
def styles(tmp_path):
    from demo.pictures import draw
    from demo.styles import HELD_OUT

    for folder, style in (("one", "lava"), ("two", "arctic")):
        (tmp_path / folder).mkdir()
        drawn = draw("star", HELD_OUT[style], np.random.default_rng(1))
        Image.fromarray((drawn * 255).astype(np.uint8)).save(tmp_path / folder / "style.png")
    return tmp_path / "one" / "style.png", tmp_path / "two" / "style.png"


@pytest.fixture
def other(tmp_path):
    """A server of the test's own, which may be killed."""
    from tools.hosting.host import find_host
    from tools.hosting.server import Server

    with Server(find_host(), tmp_path / "other") as server:
        yield server


def test_prompts_and_seed_change_the_pictures(server, flow, tmp_path):
    def drawn(name, *args, **how):
        out = tmp_path / name
        done = run(flow["prompts"], "--server", server.url, "--out", out, *args, **how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(out / f"{i:03}.png") for i in range(1, len(pictures(out)) + 1)]
        assert "prompts: KSampler 3/3\n" in done.stderr
        return pictures(out)

    first, seed = drawn("first"), drawn("seed", "--set", "6.seed=5")
    prompts = drawn("prompts", "--set", "prompts=a house\na boat")
    assert len(first) == 2 and all(p.shape == (128, 128, 3) for p in first)
    assert np.array_equal(first, drawn("again", command=OLD_NAME))
    assert min(np.abs(a - b).mean() for a, b in zip(first, seed, strict=True)) > 0.01
    assert min(np.abs(a - b).mean() for a, b in zip(first, prompts, strict=True)) > 0.003
    assert len(drawn("one", "--set", "Prompt Set.prompts=a flower")) == 1


def test_a_reference_is_sent_to_the_server(server, flow, styles, tmp_path):
    """By title and by id; and of two files with one name, each stays what it is."""
    drawn = []
    for i, (node, style) in enumerate(
        zip(("Reference picture", "9", "9"), (*styles, styles[0]), strict=True)
    ):
        out = tmp_path / f"out{i}"
        done = run(
            flow["reference"], "--server", server.url, "--out", out, "--image", f"{node}={style}",
            "--set", "What the reference shows.text=a star",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        drawn.append(pictures(out))
    one, two, one_again = drawn
    assert min(np.abs(a - b).mean() for a, b in zip(one, two, strict=True)) > 0.003
    assert np.array_equal(one, one_again)
    sent = {p.read_bytes() for p in (server.base / "input").glob("style*.png")}
    assert {p.read_bytes() for p in styles} <= sent


@pytest.mark.parametrize(
    "setting, message",
    [
        ("strength=7", "Value 7.0 bigger than max of 1.0 strength"),
        ("sampler_name=dddim", "KSampler (node 6, KSampler): Value not in list sampler_name: 'dddim'"),
        ("blocks=output 9", "SharedAttention Patch (node 5, ZSAMB_SharedAttention): SharedAttention Patch"),
        ("blocks=output 9", "'output 9' names no block of this model"),
    ],
)
def test_the_server_s_own_message_and_an_exit_code(server, flow, tmp_path, setting, message):
    done = run(flow["prompts"], "--server", server.url, "--out", tmp_path / "out", "--set", setting)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == "" and not (tmp_path / "out").exists()


def test_a_part_that_the_server_would_leave_out_is_an_error(server, flow, tmp_path):
    """The host runs what is in order and says nothing of the rest; two Save Image nodes, one of them bad."""
    twin = json.loads(flow["prompts"].read_text())
    twin["80"] = {"class_type": "ImageInvert", "inputs": {"image": ["81", 0]}}
    twin["81"] = {"class_type": "LoadImage", "inputs": {"image": "absent.png"}}
    twin["82"] = {"class_type": "SaveImage", "inputs": {"images": ["80", 0], "filename_prefix": "x"}}
    flow["prompts"].write_text(json.dumps(twin))
    done = run(flow["prompts"], "--server", server.url, "--out", tmp_path / "out")
    assert done.returncode == 1 and "Invalid image file: absent.png" in done.stderr


def test_no_server_and_something_else_than_comfyui(flow, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    done = run(flow["prompts"], "--server", f"http://me:s3cret@127.0.0.1:{free}", "--out", tmp_path / "out")
    assert done.returncode == 3 and f"http://127.0.0.1:{free} does not answer" in done.stderr
    assert "s3cret" not in done.stderr and "Traceback" not in done.stderr
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        done = run(flow["prompts"], "--server", f"http://127.0.0.1:{files.server_port}")
        files.shutdown()
    assert done.returncode == 3 and "Is this the address of a ComfyUI?" in done.stderr


def test_a_python_without_the_packages_is_told_so(flow, tmp_path):
    venv.create(tmp_path / "bare")
    python = tmp_path / "bare" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [str(python), *COMMAND[1:], str(flow["prompts"])]
    done = subprocess.run(
        command, cwd=workflows.FOLDER.parents[1], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "bare" in done.stderr and "Traceback" not in done.stderr
    assert "has no aiohttp and no PIL. Use ComfyUI's own Python, or install them" in done.stderr


def test_interrupting_the_command_cancels_the_run(server, flow):
    with started(flow["prompts"], "--server", server.url, *LONG) as process:
        (mine,) = wait_for(lambda: running(server))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "cancelled" in process.stderr.read()
    wait_for(lambda: not running(server), 30)
    messages = [m[0] for m in server.get(f"/history/{mine}")[mine]["status"]["messages"]]
    assert "execution_interrupted" in messages


def test_a_run_deleted_from_the_queue_ends(server, flow, monkeypatch):
    """Of which the host sends no word."""
    monkeypatch.setattr(client_module, "SILENCE", 0.5)
    long = workflows.fill(json.loads(flow["prompts"].read_text()), steps=400)

    async def both():
        async with Client(server.url) as client:
            ahead = asyncio.create_task(client.run(long))
            while not (await client.get("/queue"))["queue_running"]:
                await asyncio.sleep(0.1)
            behind = asyncio.create_task(client.run(workflows.fill(long, seed=77)))
            while not (pending := (await client.get("/queue"))["queue_pending"]):
                await asyncio.sleep(0.1)
            await client.cancel(pending[0][1])
            await client.cancel((await client.get("/queue"))["queue_running"][0][1])
            return await asyncio.gather(ahead, behind, return_exceptions=True)

    ahead, behind = asyncio.run(both())
    assert isinstance(behind, Refused) and "taken out of the server's queue" in str(behind)
    assert isinstance(ahead, Refused) and "interrupted" in str(ahead)


class Wire:
    """A TCP relay to a server whose connections can be cut while the server lives on."""

    def __init__(self, port):
        self.target, self.open = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        self._shut(a, b)

    def _shut(self, *sockets):
        for s in sockets:
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self._shut(*self.open)
        self.open.clear()


def test_a_lost_connection_is_taken_up_again(server, flow, tmp_path):
    wire, out = Wire(server.port), tmp_path / "out"
    args = (flow["prompts"], "--server", wire.url, "--out", out, "--set", "steps=60")
    with started(*args) as process:
        wait_for(lambda: running(server))
        wire.cut()
        assert process.wait(120) == 0, process.stderr.read()
    wire.listener.close()
    assert len(pictures(out)) == 2


def manifest(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


ROWS = [
    {"output": "first", "prompts": "a cat", "seed": 1},
    {"output": "second", "prompts": ["a dog", "a house"], "seed": 2},
    {"output": "third", "prompts": "a boat", "seed": 3},
]


def test_a_batch_goes_on_where_it_stopped(server, flow, tmp_path):
    out = tmp_path / "out"
    args = (flow["prompts"], "--server", server.url, "--out", out, "--manifest", manifest(tmp_path, *ROWS))
    assert (done := run(*args)).returncode == 0, done.stderr
    assert [len(pictures(out / row["output"])) for row in ROWS] == [1, 2, 1]
    before, second = len(server.get("/history")), pictures(out / "second")
    done = run(*args)
    assert done.returncode == 0 and "3 of 3 rows are complete already" in done.stderr
    assert len(server.get("/history")) == before
    (out / "second" / "002.png").write_bytes(b"half")
    (out / "third" / "run.json").unlink()
    stamp = (out / "first" / "001.png").stat().st_mtime_ns
    done = run(*args)
    assert done.returncode == 0 and "1 of 3 rows" in done.stderr and "2 done" in done.stderr
    assert len(server.get("/history")) == before + 2
    assert (out / "first" / "001.png").stat().st_mtime_ns == stamp
    assert np.array_equal(pictures(out / "second"), second)
    # A row that says something else than before is another row.
    manifest(tmp_path, {**ROWS[0], "seed": 9}, *ROWS[1:])
    done = run(*args)
    assert done.returncode == 0 and "2 of 3 rows" in done.stderr and "1 done" in done.stderr


def test_a_bad_row_stops_the_batch_before_it_starts(server, flow, styles, tmp_path):
    """Also one that only the server knows to be bad."""
    out, before = tmp_path / "out", len(server.get("/history"))
    for bad, message in (
        ({"sede": 5}, "row 4 (line 4): sede: no node of the workflow has an input of this name"),
        (
            {"strength": 7},
            "row 4 (line 4): strength of node 5 (SharedAttention Patch) is 7, expected at most",
        ),
        ({"sampler_name": "dddim"}, "row 4 (line 4): sampler_name of node 6 (KSampler) is 'dddim'"),
    ):
        rows = manifest(tmp_path, *ROWS, {"output": "bad", **bad})
        done = run(flow["prompts"], "--server", server.url, "--out", out, "--manifest", rows)
        assert done.returncode == 2 and message in done.stderr and "nothing was run" in done.stderr
    rows = manifest(tmp_path, *ROWS, *({"output": n, n: v} for n, v in (("strength", 7), ("sede", 5))))
    done = run(flow["prompts"], "--server", server.url, "--out", out, "--manifest", rows, "--dry-run")
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 4
    assert "row 4 (line 4): strength of node 5 (SharedAttention Patch) is 7, expected at most" in done.stderr
    assert "row 5 (line 5): sede: no node of the workflow has an input of this name" in done.stderr
    done = run(flow["prompts"], "--server", server.url, "--out", out, "--dry-run")
    assert done.returncode == 0 and f"{server.url} would run this" in done.stderr
    rows = manifest(tmp_path, {"output": "good", "image:9": str(styles[0])}, {"output": "bad"})
    done = run(flow["reference"], "--server", server.url, "--out", out, "--manifest", rows)
    assert done.returncode == 2 and "row 2 (line 2): image of node 9 (Reference picture)" in done.stderr
    assert not out.exists() and len(server.get("/history")) == before


def test_names_of_every_script_survive_every_step(server, flow, styles, tmp_path):
    """A manifest of a Windows shell, a picture, a row, a title, a prefix; a console of ASCII alone."""
    name, twin = "\u9ce5 caf\xe9", json.loads(flow["reference"].read_text())
    (saver,) = [n for n in twin.values() if n["class_type"] == "SaveImage"]
    saver["inputs"]["filename_prefix"], saver["_meta"]["title"] = f"{name}/{name}", name
    flow["reference"].write_text(json.dumps(twin))
    (tmp_path / f"{name}.png").write_bytes(styles[0].read_bytes())
    rows = tmp_path / "rows.csv"
    table = f"output,image:9,What the reference shows.text\n{name},{name}.png,{name}\n"
    rows.write_text(table, encoding="utf-16")
    args = (flow["reference"], "--server", server.url, "--out", tmp_path / "out", "--manifest", rows)
    done = run(*args, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert (server.base / "input" / f"{name}.png").read_bytes() == styles[0].read_bytes()
    folder = tmp_path / "out" / name
    shown = str(folder / "001.png").encode("ascii", "backslashreplace").decode()
    assert len(pictures(folder)) == 2 and shown in done.stdout.splitlines()
    saved = [f["saved_as"] for f in json.loads((folder / "run.json").read_text())["files"]]
    assert saved == [f"{name}/{name}_{i:05}_.png" for i in (1, 2)]
    # The picture has the names that it was made with.
    with Image.open(folder / "001.png") as image:
        prompt = json.loads(image.text["prompt"])
    assert any(n["inputs"].get("image") == f"{name}.png" for n in prompt.values())
    assert any(n["inputs"].get("text") == name for n in prompt.values())


def test_files_of_several_nodes_say_which_and_scores_lie_beside_them(server, tmp_path):
    twin = workflows.demo_twin(workflows.load("score_sheet"))
    twin = workflows.fill(twin, steps=2, prompts="a cat\na boat", style="")
    (tmp_path / "sheet.json").write_text(json.dumps(twin))
    out = tmp_path / "out"
    done = run(tmp_path / "sheet.json", "--server", server.url, "--out", out)
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in out.iterdir())
    assert names[:3] == [
        "001_Save-aligned_aligned.png",
        "002_Save-aligned_aligned.png",
        "003_Save-unaligned_unaligned.png",
    ]
    record = json.loads((out / "run.json").read_text())
    assert (
        sorted([*(f["name"] for f in record["files"]), *(t["name"] for t in record["texts"]), "run.json"])
        == names
    )
    assert {f["node"]: f["title"] for f in record["files"]} == {
        n: twin[n]["_meta"]["title"] for n in twin if twin[n]["class_type"] == "SaveImage"
    }
    scores = {t["title"]: json.loads((out / t["name"]).read_text()) for t in record["texts"]}
    assert list(scores) == ["DINO: aligned", "DINO: unaligned", "CLIP: aligned", "CLIP: unaligned"]
    assert "consistency" in scores["DINO: aligned"] and len(scores["CLIP: aligned"]["cosines"]) == 2
    assert done.stdout.split() == [str(out / f["name"]) for f in record["files"]]
    assert all((out / t["name"]).suffix == ".json" for t in record["texts"])


def test_a_failing_row_does_not_stop_the_others(server, flow, tmp_path):
    rows = manifest(tmp_path, ROWS[0], {"output": "bad", "blocks": "output 9"}, ROWS[2])
    out = tmp_path / "out"
    done = run(flow["prompts"], "--server", server.url, "--out", out, "--manifest", rows)
    assert done.returncode == 1 and "bad (row 2 (line 2)) failed: SharedAttention Patch" in done.stderr
    assert "2 done, 1 failed, 0 not run" in done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["first", "third"]


def test_a_killed_server_loses_nothing_that_is_done(server, other, flow, tmp_path):
    out = tmp_path / "out"
    rows = manifest(tmp_path, *ROWS, {"output": "long", "KSampler.steps": 400}, {"output": "never"})
    args = (flow["prompts"], "--out", out, "--manifest", rows)
    with started(*args, "--server", other.url) as process:
        wait_for(lambda: (out / "third" / "run.json").exists() and running(other))
        other.process.kill()
        assert process.wait(60) == 3
        log = process.stderr.read()
    assert "3 done, 0 failed, 2 not run" in log and "no server is left" in log
    assert f"{other.url} is given up" in log and "Traceback" not in log
    assert sorted(p.name for p in out.iterdir()) == ["first", "second", "third"]
    assert not [*out.rglob("*.part")]
    # Another server goes on from there.
    manifest(tmp_path, *ROWS, {"output": "long", "KSampler.steps": 4}, {"output": "never"})
    done = run(*args, "--server", server.url)
    assert done.returncode == 0 and "3 of 5 rows" in done.stderr and "2 done" in done.stderr


def test_two_servers_share_the_rows_and_one_takes_over(server, other, flow, styles, tmp_path):
    out = tmp_path / "out"
    short = [{"output": f"row{i}", "seed": i, "image:9": str(styles[i % 2])} for i in range(4)]
    both = ("--server", server.url, "--server", other.url, "--out", out)
    done = run(flow["reference"], *both, "--manifest", manifest(tmp_path, *short))
    assert done.returncode == 0 and "4 done" in done.stderr
    used = {json.loads(p.read_text())["server"] for p in out.rglob("run.json")}
    assert used == {server.url, other.url}
    # Both are at a long row when one dies.
    rows = manifest(tmp_path, *({"output": f"long{i}", "seed": i, "KSampler.steps": 40} for i in range(2)))
    with started(flow["prompts"], *both, "--manifest", rows) as process:
        wait_for(lambda: running(server) and running(other))
        other.process.kill()
        assert process.wait(120) == 0
        log = process.stderr.read()
    assert f"{other.url} is given up" in log and "2 done, 0 failed, 0 not run" in log
    assert {json.loads((out / f"long{i}" / "run.json").read_text())["server"] for i in range(2)} == {
        server.url
    }
    # Gone from the start, it is left out.
    rows = manifest(tmp_path, {"output": "last", "seed": 5})
    done = run(flow["prompts"], *both, "--manifest", rows)
    assert done.returncode == 0 and f"{other.url} does not answer" in done.stderr
