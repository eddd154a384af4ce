"""A run's folder: what counts as done, what is written under which names, and what is never touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.lacking import lacking
from zsamb_core.headless import claim, names, row_folder
from zsamb_core.headless.answers import Output, Text
from zsamb_core.headless.claim import LOCK, InUse, claimed
from zsamb_core.headless.manifest import prepare
from zsamb_core.headless.row_folder import MARK, RECORD, damage, is_done, keep, refuse_link

WORKFLOW = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 5.0}, "_meta": {"title": "Sampler"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Style"}},
    "7": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": "Save: aligned"}},
    "8": {"class_type": "SaveImage", "inputs": {}},
    "9": {"class_type": "CLIPScore", "inputs": {}, "_meta": {"title": "CLIP \u5206\u6570"}},
}


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def job(tmp_path, values=(), pictures={}):
    return prepare(WORKFLOW, "cat", "row 1", tmp_path / "out" / "cat", list(values), pictures)


def files(*entries, node="7"):
    """(output, content) of (name, content), or (name, content, node)."""
    return [(Output(n[0] if n else node, "images", name, "", "output"), c) for name, c, *n in entries]


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_done_is_what_was_written_whole_with_these_inputs(tmp_path, picture):
    mine = job(tmp_path, [("seed", 5)], {"3": picture})
    assert not is_done(mine) and damage(mine) == ""
    paths, texts = keep(mine, "http://a", files(("x_00001_.png", b"one"), ("x_00002_.PNG", b"two!")))
    assert [p.name for p in paths] == ["001.png", "002.png"] and paths[1].read_bytes() == b"two!"
    assert texts == [] and is_done(mine) and listing(mine.folder) == ["001.png", "002.png", RECORD]
    assert not is_done(job(tmp_path, [("seed", 6)], {"3": picture}))
    Image.new("RGB", (8, 8), "green").save(picture)
    assert not is_done(job(tmp_path, [("seed", 5)], {"3": picture}))
    paths[1].write_bytes(b"two")  # cut short
    assert not is_done(mine)
    paths[1].unlink()
    assert not is_done(mine)
    keep(mine, "http://a", files(("y.png", b"one")))
    assert is_done(mine) and not paths[1].exists()


def test_the_record_s_fields_and_the_fingerprint_stay(tmp_path):
    """Scripts read them, and batches that are done stay done: nothing of this changes, but for additions."""
    mine = job(tmp_path, [("seed", 5)])
    assert mine.fingerprint == "687c1cb834668149774a8442a313cf153dc5ca03a4ead7c6d4df75eb0df6289d"
    keep(mine, "http://a", files(("x_00001_.png", b"one")))
    record = json.loads((mine.folder / RECORD).read_text())
    assert {k: record[k] for k in ("fingerprint", "server", "pictures", "workflow")} == {
        "fingerprint": mine.fingerprint, "server": "http://a", "pictures": {}, "workflow": mine.workflow,
    }  # fmt: skip
    assert record["files"][0] == {
        "name": "001.png", "bytes": 3, "saved_as": "x_00001_.png", "node": "7", "title": "Save: aligned",
    }  # fmt: skip
    # As it was written before texts and nodes were.
    old = {"fingerprint": mine.fingerprint, "files": [{"name": "001.png", "bytes": 3}]}
    (mine.folder / RECORD).write_text(json.dumps(old))
    assert is_done(mine) and damage(mine) == ""


def test_files_of_several_nodes_say_which(tmp_path):
    mine = job(tmp_path)
    outputs = files(
        ("aligned_00001_.png", b"a"), ("aligned_00002_.png", b"b"), ("\u732b_00001_.PNG", b"c", "8"),
        ("00001_.mp4", b"d", "77"),
    )  # fmt: skip
    paths, _ = keep(mine, "", outputs)
    assert [p.name for p in paths] == [
        "001_Save-aligned_aligned.png", "002_Save-aligned_aligned.png", "003_SaveImage_\u732b.png",
        "004_node-77_00001.mp4",
    ]  # fmt: skip
    assert is_done(mine) and [p.read_bytes() for p in paths] == [b"a", b"b", b"c", b"d"]
    entries = json.loads((mine.folder / RECORD).read_text())["files"]
    assert [(e["node"], e["title"]) for e in entries[1:]] == [
        ("7", "Save: aligned"), ("8", "SaveImage"), ("77", "node 77"),
    ]  # fmt: skip
    assert entries[2]["saved_as"] == "\u732b_00001_.PNG"
    # A run of one node does away with them, and its files have the short names again.
    keep(mine, "", files(("x.png", b"e")))
    assert listing(mine.folder) == ["001.png", RECORD] and is_done(mine)


def test_texts_lie_beside_the_pictures(tmp_path):
    mine = job(tmp_path)
    scores = json.dumps({"mean": 0.25, "prompts": ["\u732b"]}, ensure_ascii=False)
    texts = [Text("9", scores), Text("9", "a caf\xe9 \ud800"), Text("77", "[1, 2")]
    pictures, written = keep(mine, "", files(("x.png", b"a")), texts)
    assert [p.name for p in pictures] == ["001.png"]
    assert [p.name for p in written] == [
        "002_CLIP-\u5206\u6570.json", "003_CLIP-\u5206\u6570.txt", "004_node-77.txt",
    ]  # fmt: skip
    assert json.loads(written[0].read_bytes())["prompts"] == ["\u732b"]
    assert written[1].read_text("utf-8") == "a caf\xe9 \\ud800"
    record = json.loads((mine.folder / RECORD).read_text())
    assert [t["node"] for t in record["texts"]] == ["9", "9", "77"] and len(record["files"]) == 1
    assert is_done(mine)
    written[0].unlink()
    assert not is_done(mine)
    keep(mine, "", [], texts[:1])  # a run that leaves texts alone
    assert is_done(mine) and listing(mine.folder) == ["001_CLIP-\u5206\u6570.json", RECORD]


STRANGE = [
    "../../etc/passwd", "a/b/c.png", "a\\b.png", "/abs.png", "x.png\0.exe", "x" * 300 + ".png", "." * 50,
    "x." + "y" * 400, "nul", "con.png", "x.png:stream", "x.<>|", "x.\u202egnp", "\ud83d.png", "a\nb.png",
    "-.-", "x.\u0440ng", " .png ", "x. ", "~", "%00", "*.png", "?",
]  # fmt: skip


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_of_files_stay_in_the_folder(tmp_path, name, several):
    mine = job(tmp_path)
    mine.workflow["8"]["_meta"] = {"title": name}
    outputs = files((name, b"a", "8"), ("x.png", b"b", "7" if several else "8"))
    paths, _ = keep(mine, "", outputs, [Text("8", "said")])
    assert is_done(mine) and len(listing(mine.folder)) == 4
    for path in mine.folder.iterdir():
        assert names.is_folder_name(path.name) and len(path.name.encode()) < 220
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_row_that_is_stopped_while_it_is_written_loses_nothing(tmp_path, monkeypatch):
    """At every step of the writing: until all is on the disk, the run before stays complete; after that, the
    row is not done.
    """
    mine = job(tmp_path)
    own = tmp_path / "out" / "cat" / "notes.txt"
    keep(mine, "", files(("x.png", b"old")))
    own.write_text("kept")

    class Stopped(Exception):
        pass

    write_one, new = row_folder._write, files(("x.png", b"new"), ("x.png", b"more"))
    for last in range(3):
        calls = []

        def stop(path, content, calls=calls, last=last):
            calls.append(path)
            if len(calls) > last:
                path.with_name(path.name + MARK).write_bytes(content[:1])
                raise Stopped
            write_one(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(row_folder, "_write", stop)
            with pytest.raises(Stopped):
                keep(mine, "", new)
        assert len(calls) == last + 1 and is_done(mine) == (last < 2)
        if last < 2:
            assert (mine.folder / "001.png").read_bytes() == b"old"
    keep(mine, "", new)
    assert is_done(mine) and listing(mine.folder) == ["001.png", "002.png", "notes.txt", RECORD]


def test_half_files_of_a_stopped_run_go_and_a_user_s_own_stay(tmp_path):
    mine = job(tmp_path)
    mine.folder.mkdir(parents=True)
    stale = [f"{name}{MARK}" for name in ("001.png", "017_Save_x.webm", "1000.png", RECORD)]
    own = ["film.part", "001.png.part", "run.json.part", "notes.txt", f"notes.txt{MARK}", "01.png"]
    for name in (*stale, *own):
        (mine.folder / name).write_text("x")
    (mine.folder / f"002.png{MARK}").mkdir()
    keep(mine, "", files(("x.png", b"new")))
    assert listing(mine.folder) == sorted([*own, f"002.png{MARK}", "001.png", RECORD])


def test_nothing_is_written_through_links(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.png").write_text("kept")
    mine = job(tmp_path)
    mine.folder.parent.mkdir()
    try:
        mine.folder.symlink_to(elsewhere)
    except OSError:
        lacking("links are not allowed here")
    with pytest.raises(OSError, match="cat is a link, expected a folder in --out"):
        refuse_link(mine)
    # --out itself may be one.
    refuse_link(prepare(WORKFLOW, "cat", "", mine.folder, [], {}))
    mine.folder.unlink()
    mine.folder.mkdir()
    for name in ("001.png", f"001.png{MARK}", RECORD, f"{RECORD}{MARK}"):
        (mine.folder / name).symlink_to(elsewhere / "precious.png")
    keep(mine, "", files(("x.png", b"new")))
    assert is_done(mine) and (mine.folder / "001.png").read_bytes() == b"new"
    assert listing(elsewhere) == ["precious.png"] and (elsewhere / "precious.png").read_text() == "kept"


def test_a_link_that_comes_meanwhile_is_not_written_through(tmp_path):
    """After the clean-up: the file is a new one, or there is an error."""
    (tmp_path / "precious.png").write_text("kept")
    (tmp_path / f"001.png{MARK}").symlink_to(tmp_path / "precious.png")
    with pytest.raises(FileExistsError):
        row_folder._write(tmp_path / "001.png", b"new")
    assert (tmp_path / "precious.png").read_text() == "kept"


@pytest.mark.parametrize("name", ["001.png", RECORD])
def test_a_folder_in_the_way_is_said_and_loses_nothing(tmp_path, name):
    mine = job(tmp_path)
    keep(mine, "", files(("x.png", b"old"), ("x.png", b"two")))
    (mine.folder / name).unlink()
    (mine.folder / name / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match=f"{name} is a folder, where a file is to be written; move it away"):
        keep(mine, "", files(("x.png", b"new")))
    assert (mine.folder / name / "inner").is_dir() and (mine.folder / "002.png").read_bytes() == b"two"


ENTRY = {"name": "001.png", "bytes": 3}
NUMBER, DEEP = "9" * 5000, "[" * 5000 + "]" * 5000
DAMAGED = {
    "empty": "",
    "half": '{"files": [{"na',
    "not JSON": "\x00\x01",
    "null": "null",
    "a number": "5",
    "a list": "[]",
    "a text": '"run"',
    "no object's end": "{",
    "deep": DEEP,
    "deep files": f'{{"files": {DEEP}}}',
    "deep but read": f'{{"files": {DEEP[4700:-4700]}}}',
    "a number too long": f'{{"files": {NUMBER}}}',
    "not UTF-8": b"\xff\xfa\xfb{}",
    "no files": {},
    "files: null": {"files": None},
    "files: 3": {"files": 3},
    "files: an object": {"files": {"001.png": 3}},
    "files: empty": {"files": []},
    "a file: null": {"files": [None]},
    "a file: a text": {"files": ["001.png"]},
    "a file: a list": {"files": [["001.png", 3]]},
    "no name": {"files": [{"bytes": 3}]},
    "name: null": {"files": [{"name": None, "bytes": 3}]},
    "name: a number": {"files": [{"name": 1, "bytes": 3}]},
    "name: empty": {"files": [{"name": "", "bytes": 3}]},
    "name: the folder": {"files": [{"name": ".", "bytes": 3}]},
    "name: upwards": {"files": [{"name": "..", "bytes": 3}]},
    "name: outside": {"files": [{"name": "../precious.txt", "bytes": 4}]},
    "name: absolute": {"files": [{"name": "/etc/hostname", "bytes": 4}]},
    "name: a user's": {"files": [{"name": "notes.txt", "bytes": 4}]},
    "name: NUL": {"files": [{"name": "001\0.png", "bytes": 3}]},
    "name: half a character": {"files": [{"name": "001_\ud800/x.png", "bytes": 3}]},
    "no size": {"files": [{"name": "001.png"}]},
    "size: null": {"files": [{"name": "001.png", "bytes": None}]},
    "size: a text": {"files": [{"name": "001.png", "bytes": "three"}]},
    "size: true": {"files": [{"name": "001.png", "bytes": True}]},
    "size: negative": {"files": [{"name": "001.png", "bytes": -1}]},
    "size: a fraction": {"files": [{"name": "001.png", "bytes": 3.5}]},
    "size: infinite": '{"files": [{"name": "001.png", "bytes": Infinity}]}',
    "texts: 3": {"files": [ENTRY], "texts": 3},
    "texts: null": {"files": [ENTRY], "texts": [None]},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_told_and_the_row_done_again(tmp_path, content):
    """Whatever it says, nothing but what runs write goes."""
    mine = job(tmp_path)
    keep(mine, "", files(("x.png", b"one")))
    (mine.folder / "notes.txt").write_text("kept")
    (tmp_path / "out" / "precious.txt").write_text("kept")
    if isinstance(content, dict):
        content = json.dumps({"fingerprint": mine.fingerprint, **content})
    record = mine.folder / RECORD
    record.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert not is_done(mine) and damage(mine).startswith("run.json is damaged (") and len(damage(mine)) < 400
    keep(mine, "", files(("x.png", b"new")))
    assert is_done(mine) and damage(mine) == "" and (mine.folder / "001.png").read_bytes() == b"new"
    assert listing(mine.folder) == ["001.png", "notes.txt", RECORD]
    assert listing(tmp_path / "out") == ["cat", "precious.txt"]


def test_a_record_that_is_no_file_is_not_waited_for(tmp_path):
    mine = job(tmp_path)
    (mine.folder / RECORD).mkdir(parents=True)
    assert not is_done(mine) and "it is no file" in damage(mine)
    (mine.folder / RECORD).rmdir()
    with (mine.folder / RECORD).open("wb") as file:
        file.truncate(row_folder.LARGEST_RECORD + 1)  # takes no room
    assert not is_done(mine) and "67108865 bytes" in damage(mine)
    if hasattr(os, "mkfifo"):
        (mine.folder / RECORD).unlink()
        os.mkfifo(mine.folder / RECORD)
        assert not is_done(mine) and "it is no file" in damage(mine)
        keep(mine, "", files(("x.png", b"new")))
        assert is_done(mine)


def test_a_folder_is_one_run_s_at_a_time(tmp_path):
    """Also between processes, and no longer than the holder lives."""
    folder = tmp_path / "out" / "cat"
    with claimed(folder):
        assert folder.is_dir()
        with pytest.raises(InUse), claimed(folder):
            pass
        with claimed(folder.parent / "other"):
            pass
    # What stayed empty is not left behind.
    assert not (tmp_path / "out").exists()
    hold = f"""
import sys
from pathlib import Path
from pathlib import Path
from zsamb_core.headless.claim import claimed
with claimed(Path({str(folder)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", hold]
    root = str(Path(__file__).resolve().parents[3])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, **pipes) as other:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(InUse), claimed(folder):
            pass
        assert listing(folder) == [LOCK]
        other.kill()
    with claimed(folder):
        (folder / "kept.txt").write_text("x")
    assert listing(folder) == ["kept.txt"]


def test_a_lock_that_its_last_holder_took_away_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between the opening of the file and its lock: that file holds nobody off any more."""
    folder, lock, taken = tmp_path / "cat", claim._lock, []

    def late(file):
        if not taken:
            (folder / LOCK).unlink()
        taken.append(file)
        lock(file)

    monkeypatch.setattr(claim, "_lock", late)
    with claimed(folder):
        assert len(taken) == 2 and listing(folder) == [LOCK]
        with pytest.raises(InUse), claimed(folder):
            pass


@pytest.mark.parametrize(
    "kind", ["a file", "a name too long", "a link to nowhere", "a lock that is a folder"]
)
def test_a_folder_that_cannot_be_is_an_error_of_its_own(tmp_path, kind):
    folder = tmp_path / "out" / ("n" * 300 if kind == "a name too long" else "cat")
    folder.parent.mkdir()
    if kind == "a file":
        folder.write_text("kept")
    if kind == "a link to nowhere":
        folder.symlink_to(tmp_path / "nowhere")
    if kind == "a lock that is a folder":
        (folder / LOCK).mkdir(parents=True)
    before = listing(folder.parent)
    with pytest.raises(OSError), claimed(folder):
        pass
    assert listing(folder.parent) == before and not (tmp_path / "nowhere").exists()


def test_sent_names_are_such_as_every_server_takes():
    same = [
        "\u732b.png",
        "caf\xe9.png",
        "a b (1).png",
        "50%.png",
        "\U0001f408.png",
        "e\u0301.png",
        "a[b].png",
    ]
    assert [names.sent_name(name) for name in same] == same
    assert names.sent_name('a"b\n\\c\ud800\udcff.png') == "a_b__c__.png"
    assert names.sent_name("cat [output]") == "cat (output)"
