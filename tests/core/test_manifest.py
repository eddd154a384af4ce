"""Manifests: rows as CSV and JSONL, mistakes named before anything runs, and what counts as done."""

import json

import pytest
from PIL import Image

from zsamb_core import manifest, run
from zsamb_core.manifest import ManifestError, is_done, keep, prepare, prepare_rows, read_manifest

WORKFLOW = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 5.0}, "_meta": {"title": "Sampler"}},
    "2": {"class_type": "PromptSet", "inputs": {"prompts": "a cat"}, "_meta": {"title": "Prompts"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Style"}},
}


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def write(tmp_path, text, name="rows.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding, newline="")
    return path


def job(tmp_path, values=(), pictures={}):
    return prepare(WORKFLOW, "cat", "row 1", tmp_path / "out" / "cat", list(values), pictures)


def test_both_kinds_say_the_same(tmp_path, picture):
    csv_file = write(
        tmp_path,
        'output,prompts,1.seed,image:Style\r\nfirst,"a cat, asleep\na dog",5,red.png\r\n\r\nsecond,,,\r\n',
        encoding="utf-8-sig",  # as spreadsheets write it
    )
    rows = [
        {"output": "first", "prompts": ["a cat, asleep", "a dog"], "1.seed": 5, "image:Style": "red.png"},
        {"output": "second"},
    ]
    jsonl = write(tmp_path, "\n\n".join(map(json.dumps, rows)) + "\n", "rows.jsonl")
    a, b = (prepare_rows(path, WORKFLOW, tmp_path / "out", [("cfg", "7")], {}) for path in (csv_file, jsonl))
    assert [j.fingerprint for j in a] == [j.fingerprint for j in b]
    assert a[0].workflow["2"]["inputs"]["prompts"] == "a cat, asleep\na dog"
    assert a[0].workflow["1"]["inputs"] == {"seed": 5, "cfg": 7} and a[0].pictures == {"3": picture}
    assert a[0].changed == [("1", "cfg"), ("2", "prompts"), ("1", "seed")]
    assert a[0].folder == tmp_path / "out" / "first"
    # An empty cell leaves what the workflow has.
    assert a[1].workflow["2"]["inputs"] == {"prompts": "a cat"} and a[1].pictures == {}
    assert a[1].place == "row 2 (line 5)" and b[1].place == "row 2 (line 3)"


def test_a_row_goes_before_the_command_line(tmp_path, picture):
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
    path = write(tmp_path, "output,seed,image:3\na,5,red.png\nb,,\n")
    common = {"Style": tmp_path / "blue.png"}
    a, b = prepare_rows(path, WORKFLOW, tmp_path, [("seed", "9")], common)
    assert (a.workflow["1"]["inputs"]["seed"], b.workflow["1"]["inputs"]["seed"]) == (5, 9)
    assert (a.pictures["3"].name, b.pictures["3"].name) == ("red.png", "blue.png")


def test_every_bad_row_is_named_and_none_is_run(tmp_path, picture):
    good = "\n".join(f"row{i},{i},red.png" for i in range(1, 7))
    bad = "row7,five,red.png\nrow8,8,absent.png\nrow9,9"
    path = write(tmp_path, f"output,seed,image:3\n{good}\n")
    assert len(prepare_rows(path, WORKFLOW, tmp_path, [], {})) == 6
    with pytest.raises(ManifestError, match=r"(?s)nothing was run.*row 9 \(line 10\): 2 cells, expected 3"):
        prepare_rows(write(tmp_path, f"output,seed,image:3\n{good}\n{bad}"), WORKFLOW, tmp_path, [], {})
    two = write(tmp_path, f"output,seed,image:3\n{good}\n{bad},red.png")
    with pytest.raises(ManifestError) as error:
        prepare_rows(two, WORKFLOW, tmp_path, [], {})
    _, seventh, eighth = str(error.value).splitlines()
    assert seventh == "row 7 (line 8): seed is 'five', expected a number such as 1."
    assert eighth.startswith("row 8 (line 9): picture ") and "absent.png: not a picture file" in eighth


@pytest.mark.parametrize(
    "text, said",
    [
        ("name,seed\na,1\n", "columns .'name', 'seed'., expected one named 'output'"),
        ("output;seed\na;1\n", "expected one named 'output' among them, with commas"),
        ("output,seed,seed\na,1,2\n", "columns .'seed'.; each needs a name of its own"),
        ("output,\na,1\n", "columns without a name"),
        ("output,seed\n", "no rows in it"),
        ("", "expected one named 'output'"),
        ("output,seed\n,1\n", r"row 1 \(line 2\): output is None"),
        ("output,seed\na,1\nA,2\n", r"row 2 \(line 3\): output is 'A', as in row 1 \(line 2\)"),
        ("output,image:3\na,\nb,\n", None),
        ('output,prompts\na,"b\n', "cannot be read"),
    ],
)
def test_tables_that_are_not_manifests(tmp_path, text, said):
    path = write(tmp_path, text)
    if said is None:
        assert len(read_manifest(path)) == 2
        return
    with pytest.raises(ManifestError, match=said):
        read_manifest(path)


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", r"row 2 \(line 2\): not JSON"),
        ("[1]", "not an object"),
        ('{"output": "b", "seed": 1, "seed": 2}', "a name stands twice"),
        ('{"output": 5}', "output is 5, expected a name"),
        ('{"output": "b", "image:3": ["x.png"]}', "expected a picture file"),
    ],
)
def test_lines_that_are_not_rows(tmp_path, line, said):
    with pytest.raises(ManifestError, match=said):
        read_manifest(write(tmp_path, f'{{"output": "a"}}\n{line}\n', "rows.jsonl"))


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "a\\\\b", ".hidden", "..", "nul", "COM1.x", "a:b", "a.", " a"]
)
def test_outputs_stay_in_their_folder(tmp_path, name):
    with pytest.raises(ManifestError, match="expected a folder name"):
        read_manifest(write(tmp_path, f'{{"output": "{name}"}}', "rows.jsonl"))


def test_other_files_are_no_manifests(tmp_path):
    with pytest.raises(ManifestError, match="a .csv or a .jsonl file"):
        read_manifest(write(tmp_path, "output\na", "rows.txt"))
    with pytest.raises(ManifestError, match="absent.csv: cannot be read"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(write(tmp_path, "output\n\u00e9", encoding="latin-1"))


def test_done_is_what_was_written_whole_with_these_inputs(tmp_path, picture):
    mine = job(tmp_path, [("seed", 5)], {"3": picture})
    assert not is_done(mine)
    paths = keep(mine, "http://a", [("x_00001_.png", b"one"), ("x_00002_.PNG", b"two!")])
    assert [p.name for p in paths] == ["001.png", "002.png"] and paths[1].read_bytes() == b"two!"
    assert is_done(mine) and not list(mine.folder.glob("*.part"))
    assert not is_done(job(tmp_path, [("seed", 6)], {"3": picture}))
    Image.new("RGB", (8, 8), "green").save(picture)
    assert not is_done(job(tmp_path, [("seed", 5)], {"3": picture}))
    paths[1].write_bytes(b"two")  # cut short
    assert not is_done(mine)
    paths[1].unlink()
    assert not is_done(mine)
    keep(mine, "http://a", [("y.png", b"one")])
    assert is_done(mine) and not paths[1].exists()
    for broken in ("", "{", "[]", '{"files": 3}'):
        (mine.folder / manifest.RECORD).write_text(broken)
        assert not is_done(mine)


def test_a_row_that_is_stopped_while_it_is_written_is_not_done(tmp_path, monkeypatch):
    """At every step of the writing; also when it replaces a complete earlier run."""
    mine = job(tmp_path)
    own = tmp_path / "out" / "cat" / "notes.txt"
    keep(mine, "", [("x.png", b"old")])
    own.write_text("kept")

    class Stopped(Exception):
        pass

    write_one, files = manifest._write, [("x.png", b"new"), ("x.png", b"more")]
    for last in range(3):
        calls = []

        def stop(path, content, calls=calls, last=last):
            calls.append(path)
            if len(calls) > last:
                path.with_name(path.name + ".part").write_bytes(content[:1])
                raise Stopped
            write_one(path, content)

        with monkeypatch.context() as patch:
            patch.setattr(manifest, "_write", stop)
            with pytest.raises(Stopped):
                keep(mine, "", files)
        assert len(calls) == last + 1 and not is_done(mine)
    keep(mine, "", files)
    assert is_done(mine) and not list(mine.folder.glob("*.part")) and own.read_text() == "kept"


@pytest.mark.parametrize(
    "extra, said",
    [
        (["--set", "sede=1"], "no node of the workflow has an input of this name. Did you mean 'seed'"),
        (["--set", "seed"], "--set 'seed': expected INPUT=VALUE"),
        (["--image", "9=red.png"], "no node of the workflow has this id or title"),
        (["--image", "Style=absent.png"], "absent.png: not a picture file"),
        (["--image", "Style=w.json"], "w.json: not a picture file"),
        (["--server", "127.0.0.1:8188"], "not an address, expected one such as http://127.0.0.1:8188"),
        (["--server", "http://me:s3cret@host:port"], "server 'http://host:port': not an address"),
        (["--server", "http://a", "--server", "http://a/"], "http://a is given twice"),
        (["--out", "w.json"], "is a file, expected a folder"),
        (["--manifest", "rows.txt"], "a .csv or a .jsonl file"),
    ],
)
def test_the_command_refuses_wrong_inputs_without_a_server(tmp_path, monkeypatch, capsys, extra, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    with pytest.raises(SystemExit) as stop:
        run.main(["w.json", *extra])
    told = capsys.readouterr()
    assert stop.value.code == 2 and said in told.err and "s3cret" not in told.err and told.out == ""
