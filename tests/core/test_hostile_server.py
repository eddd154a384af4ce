"""Servers that are broken, hostile, or something else than ComfyUI, against the whole command: each wrong
answer is a message and costs its own row alone, or its server.
"""

import asyncio
import errno
import gzip
import io
import json
import math
import re
import threading
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.core.strange_server import WORKFLOW, Close, Raw, strange_server
from zsamb_core import answers, client, pool, run

HTML = b"<!DOCTYPE html><html><body>Log in</body></html>"
NUMBER = "9" * 5000
DEEP = b"[" * 100_000 + b"]" * 100_000
ANYTHING = {
    "null": None,
    "a list": [],
    "a list of lists": [[[]]],
    "a number": 5,
    "a text": "prompt_id",
    "true": True,
    "an empty object": {},
    "strange objects": {"prompt_id": {}, "name": [], "error": [], "node_errors": []},
    "an error that is a text": {"error": "no"},
    "an error that is a list": {"error": [1, {}], "node_errors": 5},
    "deep": Raw(DEEP),
    "deep objects": Raw(b'{"a":' * 3000 + b"1" + b"}" * 3000),
    "a number too long": Raw(b"9" * 5000),
    "HTML": Raw(HTML),
    "HTML, 500": Raw(HTML, 500),
    "nothing": Raw(),
    "nothing, 204": Raw(status=204),
    "half": Raw(b'{"prompt_id": "1'),
    "not text": Raw(b"\xff\xfe\x00\x80", headers={"Content-Type": "application/json; charset=rot13"}),
    "an error, 400": Raw(b'{"error": {"message": 5, "details": [1]}, "node_errors": {"7": 3}}', 400),
    "not packed": Raw(b"{}", headers={"Content-Encoding": "gzip"}),
    "closed": Close(),
    "the way elsewhere": Raw(status=302, headers={"Location": "file:///etc/passwd"}),
    "the way in a circle": Raw(status=307, headers={"Location": "?again"}),
}


def of_run(**changes):
    """A run's record with changes."""
    return lambda usual: {key: {**record, **changes} for key, record in usual.items()}


def of_file(**changes):
    """A run's record with changes in its file."""

    def changed(usual):
        ((key, record),) = usual.items()
        (file,) = record["outputs"]["7"]["images"]
        return {key: {**record, "outputs": {"7": {"images": [{**file, **changes}]}}}}

    return changed


def of_texts(**outputs):
    return of_run(outputs={"7": {"text": ["said"]}, **outputs})


def failing(data):
    return of_run(status={"status_str": "error", "messages": [["execution_error", data]]})


def refusing(**answer):
    """Of a workflow that is run in part."""
    return lambda usual: {**usual, **answer}


ESCAPES = "\x1b[2J\ud83d" * 1000
MISTAKE = {"message": "m", "details": "d"}
ERRORS = {"7": {"class_type": "X", "errors": [MISTAKE], "dependent_outputs": []}}
ROWS = {
    **{f"prompt {name}": ("prompt", answer) for name, answer in ANYTHING.items()},
    **{f"history {name}": ("history", answer) for name, answer in ANYTHING.items()},
    **{f"upload {name}": ("upload", answer) for name, answer in ANYTHING.items()},
    **{
        f"view {name}": ("view", answer)
        for name, answer in ANYTHING.items()
        if isinstance(answer, Raw) and answer.status != 307 or isinstance(answer, Close)
    },
    "prompt with an id that is null": ("prompt", {"prompt_id": None}),
    "prompt with an id that is a list": ("prompt", {"prompt_id": ["a"]}),
    "prompt with an id of 100,000 letters": ("prompt", {"prompt_id": "a" * 100_000}),
    "prompt with an id that is a path": ("prompt", {"prompt_id": "../../queue?x=#"}),
    "prompt with an id that is half a letter": ("prompt", {"prompt_id": "\ud800"}),
    "prompt with an id of its own": ("prompt", {"prompt_id": "unknown"}),
    "prompt that leaves out a part": ("prompt", {"prompt_id": "a", "node_errors": ERRORS}),
    "prompt with errors that are a list": ("prompt", refusing(node_errors=[1])),
    "prompt with errors that are a text": ("prompt", refusing(node_errors="no")),
    "prompt with errors of null": ("prompt", refusing(node_errors={"7": None})),
    "prompt with errors of numbers": ("prompt", refusing(node_errors={"7": {"errors": 5}})),
    "prompt with errors in errors": ("prompt", refusing(node_errors={"x": {"errors": [[], 1, {}]}})),
    "prompt with 10,000 errors": ("prompt", refusing(node_errors={"7": {"errors": [MISTAKE] * 10_000}})),
    "prompt with escapes": ("prompt", Raw(b'{"error": {"message": "\\u001b[2J\\u0007\\ud800"}}', 400)),
    "prompt with a long word": ("prompt", Raw(b'{"error": {"message": "' + b"x" * 10**6 + b'"}}', 400)),
    "history of null": ("history", lambda usual: dict.fromkeys(usual)),
    "history of a list": ("history", lambda usual: {key: [] for key in usual}),
    "history of a number": ("history", lambda usual: {key: 5 for key in usual}),
    "history of another run": ("history", {"unknown": {}}),
    "status is a list": ("history", of_run(status=[1])),
    "status is a text": ("history", of_run(status="success")),
    "status is an error": ("history", of_run(status={"status_str": "error"})),
    "messages are an object": ("history", of_run(status={"messages": {"a": 1}})),
    "messages are a text": ("history", of_run(status={"messages": "execution_error"})),
    "an error of null": ("history", failing(None)),
    "an error of a list": ("history", failing([1, 2])),
    "an error of nothing": ("history", failing({})),
    "an error of lists": ("history", failing({"node_id": [], "node_type": {}, "exception_message": [[]]})),
    "an error of numbers": ("history", failing({"node_id": 7, "node_type": 1, "exception_message": 10**400})),
    "an error with escapes": ("history", failing({"node_id": "7", "exception_message": ESCAPES})),
    "interrupted": ("history", of_run(status={"messages": [["execution_interrupted", None]]})),
    "outputs are null": ("history", of_run(outputs=None)),
    "outputs are a list": ("history", of_run(outputs=[{"images": []}])),
    "outputs are a number": ("history", of_run(outputs=5)),
    "no outputs": ("history", of_run(outputs={})),
    "a node's output is null": ("history", of_run(outputs={"7": None})),
    "a node's output is a list": ("history", of_run(outputs={"7": [{"filename": "x.png"}]})),
    "a node's output is a text": ("history", of_run(outputs={"7": "x.png"})),
    "images are null": ("history", of_run(outputs={"7": {"images": None}})),
    "images are an object": ("history", of_run(outputs={"7": {"images": {"filename": "x.png"}}})),
    "images are texts": ("history", of_run(outputs={"7": {"images": ["x.png"]}})),
    "texts are numbers": ("history", of_run(outputs={"7": {"text": [1, None, [], ""]}})),
    "a name is null": ("history", of_file(filename=None)),
    "a name is a number": ("history", of_file(filename=7)),
    "a name is a list": ("history", of_file(filename=["x.png"])),
    "a name is empty": ("history", of_file(filename="")),
    "a name is half a letter": ("history", of_file(filename="\ud800.png")),
    "a name holds NUL": ("history", of_file(filename="x\0.png")),
    "a name of 100,000 letters": ("history", of_file(filename="x" * 100_000)),
    "a folder is a list": ("history", of_file(subfolder=["x"])),
    "a folder is half a letter": ("history", of_file(subfolder="\udfff")),
    "a kind is a number": ("history", of_file(type=5)),
    "upload with a name of null": ("upload", {"name": None}),
    "upload with a name of a number": ("upload", {"name": 5}),
    "upload with an empty name": ("upload", {"name": ""}),
    "upload with a folder of a list": ("upload", {"name": "x.png", "subfolder": []}),
    "upload with half a letter": ("upload", {"name": "\ud800.png"}),
    "view of a text": ("view", Raw(b"bad picture")),
    "view, 404": ("view", Raw(b"", 404)),
}  # fmt: skip
# None of these is more than odd: the run comes to its end.
FINE = {
    "a file of every name": ("history", of_file(filename="../../x<>:|\u202e.png", subfolder="..")),
    "a file without a kind": ("history", of_file(type=None, subfolder=None)),
    "nodes that are no numbers": ("history", of_texts(**{"\u0667": {"text": ["x"]}, NUMBER: None, "": {}})),
    "outputs of other kinds": ("history", of_texts(**{"8": {"animated": [True], "a": 5, "b": [[{}], None]}})),
    "messages that are none": ("history", of_run(status={"messages": [None, 5, [], ["x"], [1, 2], "x"]})),
    "upload into a folder": ("upload", {"name": "x.png", "subfolder": "of/mine"}),
    "more than is asked for": ("prompt", refusing(more=[{}])),
}  # fmt: skip
HALF = "\udc00"
OWN = {"prompt_id": "THE RUN"}
MESSAGES = {
    "no JSON": ["", "{", "\x00", "5", "null", "[]", '"x"', DEEP.decode(), "9" * 5000],
    "no bytes of ours": [b"", b"\x00\x01", b"\xff" * 70_000],
    "no type": [{}, {"type": None}, {"type": 5, "data": OWN}, {"data": OWN}, {"type": [], "data": OWN}],
    "no data": [{"type": "progress"}, *({"type": "progress", "data": d} for d in (None, [], 5, "x"))],
    "strange ids": [{"type": "execution_error", "data": {"prompt_id": i}} for i in (None, [], {}, True, "x")],
    "strange nodes": [{"type": "executing", "data": {**OWN, "node": n}} for n in (None, [], {}, True, HALF)],
    "strange steps": [
        {"type": "progress", "data": {**OWN, "node": "2", "value": v, "max": m}}
        for v, m in ((None, None), ("1", "2"), ([], {}), (-1, -5), (1e308, 1e308), (math.inf, math.nan))
    ],
    "no steps": [{"type": "progress", "data": {**OWN, "node": "2"}}],
    "other runs' ends": [{"type": "execution_error", "data": {"prompt_id": "another"}}] * 50,
    "its end": [None],
    "its end, after a word": [{"type": "executing", "data": {**OWN, "node": "2"}}, None],
}  # fmt: skip


WS = {
    "answers 200": {},
    "answers HTML": Raw(HTML),
    "answers 404": Raw(status=404),
    "answers 500": Raw(HTML, 500),
    "goes elsewhere": Raw(status=302, headers={"Location": "/queue"}),
    "is closed": Close(),
    "says yes, but not how": Raw(status=101, headers={"Upgrade": "x", "Connection": "Upgrade"}),
}


@pytest.fixture(scope="module")
def servers():
    with strange_server() as one, strange_server() as two:
        yield one, two


@pytest.fixture(scope="module", autouse=True)
def hurry():
    """Waiting takes no time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "PAUSE", 0.01)
        patch.setattr(client, "FILING", 0.15)
        patch.setattr(client, "SILENCE", 0.3)
        patch.setattr(pool, "PAUSE", 0.05)
        yield


@pytest.fixture
def server(servers):
    for each in servers:
        each.reset()
    return servers[0]


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
        return run.main([*map(str, paths), *where])

    def complete(self):
        """Servers' addresses by the names of the rows that are done; nothing else lies in their folders."""
        found = {}
        for folder in sorted(self.out.iterdir()) if self.out.exists() else ():
            if not folder.is_dir() or folder.is_symlink():
                continue
            record = json.loads((folder / "run.json").read_text())
            files = [entry["name"] for entry in (*record["files"], *record["texts"])]
            assert sorted(p.name for p in folder.iterdir()) == sorted([*files, "run.json"])
            found[folder.name] = record["server"]
        return found


@pytest.fixture
def batch(tmp_path, capsys):
    """``batch(rows, server, ...)`` runs them, and returns code, out, err and the Batch."""

    def done(rows, *servers):
        this = Batch(tmp_path, rows)
        code = this.run(*servers)
        told = capsys.readouterr()
        refuse_ugly(told.err)
        return SimpleNamespace(code=code, out=told.out, err=told.err, complete=this.complete(), batch=this)

    return done


def refuse_ugly(err):
    assert "Traceback" not in err and "error of this program" not in err, err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", err)
    assert max(map(len, err.splitlines()), default=0) < 1500


@pytest.fixture(scope="module")
def table(servers, tmp_path_factory):
    """All cases of ROWS, FINE and MESSAGES in one batch, with good rows among them; and the same command when
    the server is well again.
    """
    (server, _), rows = servers, []
    server.reset()
    for i, name in enumerate((*ROWS, *FINE, *MESSAGES), 1000):
        rows += [(f"good {i}", i - 999)] * (i % 10 == 0) + [(f"case {i}", i)]
        if name in MESSAGES:
            server.messages[i] = MESSAGES[name]
        else:
            what, answer = {**ROWS, **FINE}[name]
            server.rows[i] = {what: answer}
    this = Batch(tmp_path_factory.mktemp("table"), rows)
    # No capsys for a module.
    with pytest.MonkeyPatch.context() as patch:
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        code, complete = this.run(server), this.complete()
        server.reset()
        again = this.run(server)
    numbers = {name: i for i, name in enumerate((*ROWS, *FINE, *MESSAGES), 1000)}
    return SimpleNamespace(
        code=code, again=again, err=err.getvalue(), complete=complete, in_the_end=this.complete(),
        rows=[name for name, _ in rows], numbers=numbers,
    )  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_strange_answer_fails_its_row_alone(table, name):
    row = f"case {table.numbers[name]}"
    assert re.search(rf"^{row} \(row \d+ \(line \d+\)\) failed: \S", table.err, re.M)
    assert row not in table.complete


@pytest.mark.parametrize("name", [*FINE, *MESSAGES])
def test_odd_answers_and_messages_do_no_harm(table, name):
    assert f"case {table.numbers[name]}" in table.complete


def test_nothing_else_is_lost_and_the_same_command_goes_on(table):
    refuse_ugly(table.err)
    good = [name for name in table.rows if name.startswith("good")]
    assert len(ROWS) > 130 and len(good) > 13 and set(good) <= set(table.complete)
    assert (table.code, table.again) == (1, 0)
    assert f"{len(table.rows) - len(ROWS)} done, {len(ROWS)} failed, 0 not run" in table.err
    assert f"{len(table.complete)} of {len(table.rows)} rows are complete already" in table.err
    assert sorted(table.in_the_end) == sorted(table.rows)


@pytest.mark.parametrize("answer", WS.values(), ids=WS)
def test_a_websocket_that_is_none(server, batch, answer):
    server.answers = {"ws": answer}
    found = batch([("a", 1), ("b", 2)], server)
    assert found.code == 1 and "0 done, 2 failed, 0 not run" in found.err and not server.runs


def test_a_flood_of_other_messages_does_not_hide_that_the_run_is_gone(server, batch, monkeypatch):
    """Monitors send one every second; the run was deleted from the queue, of which nobody sends word."""
    monkeypatch.setattr(client, "SILENCE", 0.1)

    async def flood(socket, prompt_id, seed):
        for _ in range(1500):
            await socket.send_json({"type": "crystools.monitor", "data": {"cpu": 5}})
            await asyncio.sleep(0.01)

    monkeypatch.setattr(server, "tell", flood)
    server.answers, start = {"history": {}}, time.monotonic()
    found = batch([("a", 1)], server)
    assert found.code == 1 and "the run was taken out of the server's queue" in found.err
    assert time.monotonic() - start < 10


def test_a_long_silence_is_not_filled_with_questions(server, batch, monkeypatch):
    async def later(socket, prompt_id, seed, tell=server.tell):
        await asyncio.sleep(1)
        await tell(socket, prompt_id, seed)

    monkeypatch.setattr(server, "tell", later)
    server.answers = {"queue": lambda _: {"queue_running": [[0, key] for key in server.runs]}}
    assert batch([("a", 1)], server).code == 0 and server.asked <= 4


def test_a_queue_that_is_none(server, batch):
    """It is asked when the connection breaks."""
    server.messages = {1: [None]}
    for answer in ({"a": 5}, {"a": [5]}, [], 5, "x", Raw(HTML), Raw(DEEP)):
        server.answers = {"queue": answer}
        found = batch([("a", 1)], server)
        assert found.code == 1 and "/queue answers" in found.err


@pytest.mark.parametrize("what", ["stats", "info"])
@pytest.mark.parametrize("answer", ANYTHING.values(), ids=ANYTHING)
def test_a_server_that_is_none_is_left_out(servers, server, batch, what, answer):
    """Alone, there is no server; beside another, that one does the rows."""
    one, two = servers
    server.answers, rows = {what: answer}, [("a", 1), ("b", 2)]
    found = batch(rows, one)
    if isinstance(answer, dict):  # an object is all that is asked of its state, or it has no such node
        assert found.code == {"stats": 0, "info": 2}[what]
        return
    assert found.code == 3 and found.err.startswith(one.url) and not found.out and not found.complete
    found = batch(rows, one, two)
    assert found.code == 0 and found.err.startswith(one.url)
    assert "going on without 1 of 2 servers" in found.err
    assert found.complete == dict.fromkeys(["a", "b"], two.url)


def of_seed(spec):
    return {"input": {"required": {"seed": spec}}}


STRANGE_INFO = {
    "null": None,
    "a list": [],
    "a text": "x",
    "no input": {},
    "input null": {"input": None},
    "input a list": {"input": []},
    "groups null": {"input": {"required": None}},
    "groups a list": {"input": {"required": [["seed"]]}},
    "spec null": of_seed(None),
    "spec empty": of_seed([]),
    "spec a text": of_seed("INT"),
    "kind an object": of_seed([{"a": 1}]),
    "options null": of_seed(["INT", None]),
    "options a list": of_seed(["INT", [1]]),
    "bounds are texts": of_seed(["INT", {"min": "0", "max": []}]),
    "bounds are null": of_seed(["INT", {"min": None, "max": None}]),
    "choices are null": of_seed(["COMBO", {"options": None}]),
    "choices of lists": of_seed(["COMBO", {"options": [[1], {}, None, 1]}]),
}


@pytest.mark.parametrize("about", STRANGE_INFO.values(), ids=STRANGE_INFO)
def test_strange_words_about_a_node(server, batch, about):
    """What cannot be checked is not; what is no word about a node leaves the server out."""
    server.answers = {"info": lambda usual: dict.fromkeys(usual, about)}
    found = batch([("a", 1)], server)
    if about is None:
        assert found.code == 2 and "has no class" in found.err
    elif not isinstance(about, dict):
        assert found.code == 3 and "/object_info/KSampler answers" in found.err
    else:
        assert found.code == 0 and list(found.complete) == ["a"]


@pytest.mark.parametrize(
    "what, answer",
    [
        ("prompt", Raw(b"Internal Server Error", 500)),
        ("prompt", Raw(HTML)),
        ("history", failing({"node_id": "2", "exception_message": "CUDA error: no device"})),
        ("view", Raw(HTML)),
        ("upload", Raw(HTML, 413)),
        ("prompt", Close()),
    ],
)
def test_a_server_where_row_after_row_fails_costs_no_row(servers, server, batch, what, answer):
    one, two = servers
    one.answers = {what: answer}
    found = batch([(f"row{i}", i) for i in range(20)], one, two)
    assert found.code == 0 and "20 done, 0 failed, 0 not run" in found.err, found.err
    assert set(found.complete.values()) == {two.url} and len(found.complete) == 20
    assert found.err.count(f"{one.url} is left out: 3 rows in a row failed there") == 1, found.err
    assert found.err.count(f"goes to another server, {one.url} says: ") == 3, found.err


def test_rows_that_are_bad_themselves_leave_no_server_out(servers, server, batch):
    """Each is tried on both servers, and the good rows behind them are done; also one that fails once."""
    tried = []

    def once(usual):
        tried.append(usual)
        return Raw(status=500) if len(tried) == 1 else usual

    for each in servers:
        each.rows = {i: {"prompt": Raw(b'{"error": {"message": "no such seed"}}', 400)} for i in range(12)}
        each.rows[12] = {"prompt": once}
    found = batch([(f"row{i}", i) for i in range(20)], *servers)
    assert found.code == 1 and "8 done, 12 failed, 0 not run" in found.err and len(found.complete) == 8
    assert found.err.count("failed: no such seed") == 12 and "left out" not in found.err
    assert all(sorted(each.runs.values())[:13] == list(range(13)) for each in servers)


def test_servers_that_wait_for_each_other_s_word_do_not_wait_for_ever(servers, server, batch, monkeypatch):
    """Nor where a row ends without one: both have refused their fill, and then its picture is gone."""
    gone, upload = set(), client.Client.upload

    async def upload_once(self, path):
        if path.name in gone:
            raise FileNotFoundError(2, "No such file", str(path))
        gone.add(path.name)
        return await upload(self, path)

    monkeypatch.setattr(client.Client, "upload", upload_once)
    for each in servers:
        each.rows = {i: {"prompt": Raw(status=500)} for i in range(12)}
    found = batch([(f"row{i}", i) for i in range(20)], *servers)
    assert found.code == 1 and "8 done, 12 failed, 0 not run" in found.err


def test_the_last_server_is_not_left_out(servers, server, batch):
    for each in servers:
        each.answers = {"prompt": Raw(b"Internal Server Error", 500)}
    for given in (servers[:1], servers):
        found = batch([(f"row{i}", i) for i in range(8)], *given)
        assert found.code == 1 and "0 done, 8 failed, 0 not run" in found.err
        assert "is left out" not in found.err
        assert len(re.findall(r"^row\d .* failed: ", found.err, re.M)) == 8


def test_a_run_that_somebody_stopped_is_not_given_to_another(servers, server, batch):
    for each in servers:
        each.answers = {"history": of_run(status={"messages": [["execution_interrupted", {}]]})}
    found = batch([("a", 1)], *servers)
    assert found.code == 1 and "failed: the run was interrupted on the server" in found.err
    assert sum(len(each.runs) for each in servers) == 1


def test_bodies_without_end_are_cut(server, batch, monkeypatch):
    for name in ("LARGEST_ANSWER", "LARGEST_FILE"):
        monkeypatch.setattr(client, name, 1 << 20)
    packed = gzip.compress(b"[" + b"1," * (4 << 20) + b"1]")
    for what in ("prompt", "history", "upload", "view"):
        server.answers = {what: Raw(packed, headers={"Content-Encoding": "gzip"})}
        found = batch([("a", 1)], server)
        assert found.code == 1 and "more than 1 MB" in found.err, (what, found.err)


def test_a_folder_that_cannot_be_written_fails_its_row_alone_and_before_it_runs(server, batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "file").write_text("kept")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    found = batch([("first", 1), ("link", 5), ("file", 2), ("n" * 300, 3), ("last", 4)], server)
    assert found.code == 1 and "2 done, 3 failed, 0 not run" in found.err
    assert "link is a link, expected a folder in --out" in found.err and "name too long" in found.err
    assert sorted(server.runs.values()) == [1, 4] and not list((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "out" / "file").read_text() == "kept"


def test_a_picture_that_is_gone_fails_its_row_alone(server, batch, tmp_path, monkeypatch):
    prepare_rows = run.prepare_rows

    def gone(*args):
        jobs = prepare_rows(*args)
        (tmp_path / "2.png").unlink()
        return jobs

    monkeypatch.setattr(run, "prepare_rows", gone)
    found = batch([("a", 1), ("b", 2), ("c", 3)], server)
    assert found.code == 1 and "2.png" in found.err and "2 done, 1 failed" in found.err


def test_a_full_disk_stops_the_batch(server, batch, monkeypatch):
    """No row could be kept, so none is drawn in vain."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pool, "keep", full)
    found = batch([("a", 1), ("b", 2), ("c", 3)], server)
    assert found.code == 1 and "stopped: " in found.err and len(server.runs) == 1


def test_two_runs_share_one_folder(servers, server, tmp_path):
    """No row is drawn twice, none is lost, none is a mixture, and both end well."""
    batch, codes = Batch(tmp_path, [(f"row{i}", i) for i in range(8)]), []
    threads = [threading.Thread(target=lambda s=each: codes.append(batch.run(s))) for each in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [0, 0] and len(batch.complete()) == 8
    assert sorted([*servers[0].runs.values(), *servers[1].runs.values()]) == list(range(8))


def test_a_mistake_of_the_program_costs_its_row_alone(server, batch, monkeypatch, capsys, tmp_path):
    class Wrong:
        def __init__(self, *_):
            raise KeyError("a mistake")

    monkeypatch.setattr(pool, "show_step", Wrong)
    assert Batch(tmp_path, [("a", 1), ("b", 2)]).run(server) == 1
    err = capsys.readouterr().err
    assert err.count("an error of this program, please report it: KeyError('a mistake')") == 2


def test_odd_is_a_value_error():
    """What reads an answer raises nothing else."""
    for read in (answers.uploaded, answers.queued, lambda a: answers.record(a, "x"), answers.an_object):
        for value in (None, [], 5, "x", True, 1.5):
            with pytest.raises(answers.Odd):
                read(value)
